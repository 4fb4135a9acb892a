// Norms of rows, or of every head in them. See operators.h.
#pragma once
#include <cmath>
#include <cstdint>
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// What the norms have in common: `width` columns have a norm of their own.
template <class Operator>
void check_norm(const OperatorCheck& check, const Operator& norm, int64_t width) {
  const auto& x = check.value(norm.x);
  const auto& weight = check.weight(norm.weight);
  if (width != weight.out) {
    check.fail("norm weight ", weight.name, " has ", weight.out, " values for width ", width);
  }
  if (width <= 0 || x.width % width != 0) check.fail("width ", x.width, " is no multiple of ", width);
  if (!std::isfinite(norm.eps) || norm.eps < 0) check.fail("eps is ", norm.eps);
  check.same_shape(norm.x, norm.out);
}

// out = x / sqrt(mean(x^2) + eps) * weight, over each run of `width` columns: all of them, or one head after the other.
template <class Form>
struct RmsNorm {
  static constexpr const char* name = "rmsNorm";
  typename Form::Value x;
  typename Form::Weight weight;
  int64_t width;
  float eps;
  typename Form::Value out;

  static constexpr auto fields() {
    using Self = RmsNorm;
    return std::tuple{read("x", &Self::x), operators::weight("weight", &Self::weight, WeightUse::vector),
                      attribute("width", &Self::width), attribute("eps", &Self::eps),
                      write_or_update("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const { check_norm(check, *this, width); }
};

// x += y, then out = the norm of whole rows of x.
template <class Form>
struct AddRmsNorm {
  static constexpr const char* name = "addRmsNorm";
  typename Form::Value x, y;
  typename Form::Weight weight;
  float eps;
  typename Form::Value out;

  static constexpr auto fields() {
    using Self = AddRmsNorm;
    return std::tuple{update("x", &Self::x), read("y", &Self::y),
                      operators::weight("weight", &Self::weight, WeightUse::vector), attribute("eps", &Self::eps),
                      write("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const {
    check.same_shape(x, y);
    check_norm(check, *this, check.value(x).width);
  }
};

// out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias, over whole rows. A mean that is large beside
// the deviations from it costs no digits.
template <class Form>
struct LayerNorm {
  static constexpr const char* name = "layerNorm";
  typename Form::Value x;
  typename Form::Weight weight, bias;
  float eps;
  typename Form::Value out;

  static constexpr auto fields() {
    using Self = LayerNorm;
    return std::tuple{read("x", &Self::x), operators::weight("weight", &Self::weight, WeightUse::vector),
                      optional_weight("bias", &Self::bias, WeightUse::vector), attribute("eps", &Self::eps),
                      write_or_update("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const {
    const int64_t width = check.value(x).width;
    check_norm(check, *this, width);
    if (!is_given(bias)) return;
    const auto& addends = check.weight(bias);
    if (addends.out != width) {
      check.fail("norm bias ", addends.name, " has ", addends.out, " values for width ", width);
    }
  }
};

}  // namespace billfish::operators
