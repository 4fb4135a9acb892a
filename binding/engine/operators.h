// Every operator, declared once in operators/: its name, its operands and what it does to them, its attributes, and
// what must hold.
//
// What follows from a declaration: the fields that TypeScript hands over (napi/operator_parser.cc), validation
// (program.h), lifetimes of values (for_each_value), the search for numbers that are not finite (stage.h), and a
// function run() of every backend (backend.h). docs/how-to/add-an-operator.md says what else an operator takes.
//
// Form is InProgram, where operands are numbers, or InCall, where they are memory. check() is asked of a program's.
#pragma once
#include <variant>

#include "engine/operators/attention.h"
#include "engine/operators/elementwise.h"
#include "engine/operators/embedding.h"
#include "engine/operators/exchange.h"
#include "engine/operators/experts.h"
#include "engine/operators/linear.h"
#include "engine/operators/norms.h"
#include "engine/operators/recurrent.h"

namespace billfish {

// The operators that backends run: each of them has a function run() for each.
#define BILLFISH_BACKEND_OPERATORS(each)                                                                 \
  each(Embedding) each(RmsNorm) each(AddRmsNorm) each(LayerNorm) each(Linear) each(Rope) each(LogNScale) \
      each(Attention) each(CausalConv) each(GatedDeltaRule) each(SiluMul) each(SigmoidMul) each(Route)   \
          each(GroupedLinear) each(Combine) each(Add) each(Gather)
#define BILLFISH_OPERATORS(each) \
  BILLFISH_BACKEND_OPERATORS(each) each(Tap) each(AllReduce) each(AllGather) each(Send) each(Receive)

// In a program: Embedding, RmsNorm, ...
#define BILLFISH_IN_PROGRAM(Name) using Name = operators::Name<InProgram>;  // NOLINT(bugprone-macro-parentheses)
BILLFISH_OPERATORS(BILLFISH_IN_PROGRAM)
#undef BILLFISH_IN_PROGRAM
using LinearTarget = operators::LinearTarget<InProgram>;
using operators::GatheredPiece;

template <class Ignored, class... Operators>
using VariantOf = std::variant<Operators...>;
#define BILLFISH_ALTERNATIVE(Name) , Name
using Operator = VariantOf<void BILLFISH_OPERATORS(BILLFISH_ALTERNATIVE)>;
#undef BILLFISH_ALTERNATIVE

// In a call: Call<Embedding>, Call<RmsNorm>, ...
template <class Operator>
struct CallOf;
template <template <class> class Declared>
struct CallOf<Declared<InProgram>> {
  using Type = Declared<InCall>;
};
template <class Operator>
using Call = typename CallOf<Operator>::Type;

inline const char* operator_name(const Operator& op) {
  return std::visit([](const auto& o) { return o.name; }, op);
}

// Calls visit(id, whether the operator writes it for the first time) for every value of an operator, those that it
// reads first: declarations list them so.
template <class Visit>
void for_each_value(const Operator& op, Visit visit) {
  std::visit(
      [&](const auto& o) {
        const auto reads = [&](ValueId id) {
          bool found = false;
          for_each_operand(o, [&](const auto& field, auto operand) {
            if constexpr (kind_of<decltype(field)> == FieldKind::value) {
              found = found || (operand == id && field.role == Role::read);
            }
          });
          return found;
        };
        for_each_operand(o, [&](const auto& field, auto operand) {
          if constexpr (kind_of<decltype(field)> == FieldKind::value) {
            const bool in_place = field.role == Role::write_or_update && reads(operand);
            visit(operand, field.role == Role::write || (field.role == Role::write_or_update && !in_place));
          }
        });
      },
      op);
}

// Calls visit(id) for every weight of an operator.
template <class Visit>
void for_each_weight(const Operator& op, Visit visit) {
  std::visit(
      [&](const auto& o) {
        for_each_operand(o, [&](const auto& field, auto operand) {
          if constexpr (kind_of<decltype(field)> == FieldKind::weight) visit(operand);
        });
      },
      op);
}

// The weight that says where in a model an operator is: the last one that it must have. no_weight if it has none.
inline WeightId naming_weight(const Operator& op) {
  return std::visit(
      [](const auto& o) {
        WeightId last = no_weight;
        for_each_operand(o, [&](const auto& field, auto operand) {
          if constexpr (kind_of<decltype(field)> == FieldKind::weight) {
            if (!field.optional) last = operand;
          }
        });
        return last;
      },
      op);
}

}  // namespace billfish
