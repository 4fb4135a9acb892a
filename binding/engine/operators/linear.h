// Linears. See operators.h.
#pragma once
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

// out = x * weight^T + the weight's bias.
template <class Form>
struct LinearTarget {
  typename Form::Weight weight;
  typename Form::Value out;

  static constexpr auto fields() {
    using Self = LinearTarget;
    return std::tuple{operators::weight("weight", &Self::weight, WeightUse::linear), write("out", &Self::out)};
  }
};

// One or several weights on one input.
template <class Form>
struct Linear {
  static constexpr const char* name = "linear";
  typename Form::Value x;
  typename Form::template List<LinearTarget<Form>> targets;

  static constexpr auto fields() {
    using Self = Linear;
    return std::tuple{read("x", &Self::x), list("targets", &Self::targets)};
  }
  void check(const OperatorCheck& check) const {
    const auto& input = check.value(x);
    if (targets.empty()) check.fail("no targets");
    for (const auto& target : targets) {
      const auto& weight = check.weight(target.weight);
      const auto& out = check.value(target.out);
      if (weight.experts > 0) check.fail("weight ", weight.name, " is of experts");
      if (out.rows != input.rows) check.fail("the rows of x and out are not the same");
      if (input.width != weight.in || out.width != weight.out) {
        check.fail("weight ", weight.name, " [", weight.out, ", ", weight.in, "] does not fit input width ",
                   input.width, " and output width ", out.width);
      }
    }
  }
};

}  // namespace billfish::operators
