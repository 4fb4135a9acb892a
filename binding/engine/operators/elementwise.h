// Numbers of two operands by themselves. See operators.h.
#pragma once
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// gate = silu(gate) * up, silu(g) = g / (1 + exp(-g)).
template <class Form>
struct SiluMul {
  static constexpr const char* name = "siluMul";
  typename Form::Value gate, up;

  static constexpr auto fields() {
    using Self = SiluMul;
    return std::tuple{update("gate", &Self::gate), read("up", &Self::up)};
  }
  void check(const OperatorCheck& check) const { check.same_shape(gate, up); }
};

// x = x * sigmoid(gate), sigmoid(g) = 1 / (1 + exp(-g)). A gate of one column is that of its whole row.
template <class Form>
struct SigmoidMul {
  static constexpr const char* name = "sigmoidMul";
  typename Form::Value x, gate;

  static constexpr auto fields() {
    using Self = SigmoidMul;
    return std::tuple{update("x", &Self::x), read("gate", &Self::gate)};
  }
  void check(const OperatorCheck& check) const {
    if (check.value(gate).width != 1) return check.same_shape(x, gate);
    if (check.value(x).rows != check.value(gate).rows) check.fail("the rows of x and gate are not the same");
  }
};

// x += y.
template <class Form>
struct Add {
  static constexpr const char* name = "add";
  typename Form::Value x, y;

  static constexpr auto fields() {
    using Self = Add;
    return std::tuple{update("x", &Self::x), read("y", &Self::y)};
  }
  void check(const OperatorCheck& check) const { check.same_shape(x, y); }
};

}  // namespace billfish::operators
