// Mixtures of experts. See operators.h.
#pragma once
#include <cstdint>
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"
#include "engine/operators/linear.h"

namespace billfish::operators {

// Sends every token to `top_k` of the experts whose logits are the columns of x: out = [their numbers | their weights],
// 2 * top_k columns in fp32 on every backend, the likeliest first and of equals the one with the lower number. Weights
// are probabilities of a softmax over all experts, divided by their sum over the chosen ones if `normalize` is 1.
template <class Form>
struct Route {
  static constexpr const char* name = "route";
  typename Form::Value x, out;
  int32_t top_k, normalize;

  static constexpr auto fields() {
    using Self = Route;
    return std::tuple{read("x", &Self::x), write("out", &Self::out), attribute("topK", &Self::top_k),
                      attribute("normalize", &Self::normalize)};
  }
  void check(const OperatorCheck& check) const {
    const auto &logits = check.value(x), &routing = check.value(out);
    if (logits.rows != routing.rows) check.fail("the rows of x and out are not the same");
    if (logits.kind != ValueClass::logits || routing.kind != ValueClass::logits) check.fail("x and out are not logits");
    if (top_k < 1 || top_k > logits.width) check.fail(top_k, " of ", logits.width, " experts");
    if (routing.width != 2 * int64_t{top_k}) check.fail("out is ", routing.width, " wide for ", top_k, " experts");
    if (normalize > 1) check.fail("normalize is ", normalize);
  }
};

// A slot is a token at one of its experts: a token has routing.width / 2 of them.
inline int64_t slots_of(const OperatorCheck& check, ValueId routing) {
  const auto& value = check.value(routing);
  if (value.kind != ValueClass::logits || value.width % 2 != 0) check.fail("routing is not what route gives");
  return value.width / 2;
}

// For every slot: out = x * (the weight of the slot's expert)^T + its bias. The slots of a token are beside each other
// in out, and in x, too, unless x is as wide as one: then all slots of a token have the same x. The weights are those
// of experts from number `first` on; slots at other experts are zero.
template <class Form>
struct GroupedLinear {
  static constexpr const char* name = "groupedLinear";
  typename Form::Value x, routing;
  typename Form::template List<LinearTarget<Form>> targets;
  int32_t first;

  static constexpr auto fields() {
    using Self = GroupedLinear;
    return std::tuple{read("x", &Self::x), read("routing", &Self::routing), list("targets", &Self::targets),
                      attribute("first", &Self::first)};
  }
  void check(const OperatorCheck& check) const {
    const auto& input = check.value(x);
    const int64_t slots = slots_of(check, routing);
    if (targets.empty()) check.fail("no targets");
    if (input.rows != check.value(routing).rows) check.fail("the rows of x and routing are not the same");
    const auto& model = check.weight(targets[0].weight);
    for (const auto& target : targets) {
      const auto& weight = check.weight(target.weight);
      const auto& out = check.value(target.out);
      if (out.rows != input.rows) check.fail("the rows of x and out are not the same");
      if (weight.experts == 0 || weight.experts != model.experts || weight.in != model.in) {
        check.fail("weights ", model.name, " and ", weight.name, " are not of the same experts and inputs");
      }
      if ((input.width != weight.in && input.width != slots * weight.in) || out.width != slots * weight.expert_out) {
        check.fail("experts ", weight.name, " [", weight.expert_out, ", ", weight.in, "] do not fit input width ",
                   input.width, " and output width ", out.width, " of ", slots, " slots");
      }
    }
  }
};

// out = the sum over a token's slots of x, each times the slot's weight.
template <class Form>
struct Combine {
  static constexpr const char* name = "combine";
  typename Form::Value x, routing, out;

  static constexpr auto fields() {
    using Self = Combine;
    return std::tuple{read("x", &Self::x), read("routing", &Self::routing), write("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const {
    const auto &slots = check.value(x), &sum = check.value(out);
    if (slots.rows != sum.rows || sum.rows != check.value(routing).rows) check.fail("operands have different rows");
    if (slots.width != slots_of(check, routing) * sum.width)
      check.fail(slots.width, " columns for sums of ", sum.width);
  }
};

}  // namespace billfish::operators
