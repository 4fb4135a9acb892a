// The part of a stage that looks for the first number that is not finite (non_finite.h), when a step asks for it.
#include <algorithm>
#include <optional>
#include <string>
#include <variant>

#include "engine/link.h"
#include "engine/stage.h"

namespace billfish {

// Looks at what the operator has computed, unless something was found before.
void Stage::search(OperatorIterator op, Step& step) {
  std::optional<NonFiniteOutput>& found = step.found[static_cast<size_t>(rank_.rank)];
  const auto look = [&](ValueId id, WeightId weight) {
    if (found) return;
    const std::optional<NonFinite> first = backend_->find_non_finite(tensor(id));
    if (!first) return;
    const bool tokens = program_.values[id].rows == RowKind::tokens;
    const auto row = static_cast<size_t>(tokens ? first->row : first_logit_row_ + first->row);
    const int32_t position = step.batch.positions[tokens ? row : static_cast<size_t>(step.batch.logit_rows[row])];
    const size_t order = is_branch() ? links_[0]->order : order_of(*op);
    found = NonFiniteOutput{order, name_of(op, weight), backend_->device(), position, *first};
  };
  // What is written is named after the operator's weight, and what is changed in place after the one before.
  std::visit(
      [&](const auto& o) {
        WeightId last = no_weight;
        for_each_operand(o, [&](const auto& field, int32_t id) {
          if constexpr (kind_of<decltype(field)> == FieldKind::weight) {
            if (!field.optional) last = id;
          } else if (field.role == Role::update) {
            look(id, no_weight);
          } else if (field.role == Role::write || field.role == Role::write_or_update) {
            look(id, last);
          }
        });
      },
      *op);
}

size_t Stage::order_of(const Operator& op) const {
  return static_cast<size_t>(std::count_if(
      program_.operators.data(), &op, [](const Operator& before) { return !std::holds_alternative<Tap>(before); }));
}

// Throws the first of what the ranks found, in the order of the forward pass.
void Stage::report_search(Step& step) const {
  const NonFiniteOutput* first = nullptr;
  for (const auto& found : step.found) {
    if (found && (first == nullptr || found->order < first->order)) first = &*found;
  }
  if (first == nullptr) return;
  step.hidden.release();
  throw first->error();
}

// A name for an operator's output: that of its weight in the checkpoint, or of the last weight before it.
std::string Stage::name_of(OperatorIterator op, WeightId weight) const {
  const auto module = [&](WeightId id) {
    std::string name = shapes_[static_cast<size_t>(id)].name;
    if (name.ends_with(".weight")) name.resize(name.size() - std::string(".weight").size());
    return name;
  };
  if (weight != no_weight) return "The output of " + module(weight);
  std::string what = std::string("The outcome of ") + operator_name(*op);
  while (op != program_.operators.begin()) {
    const WeightId before = naming_weight(*--op);
    if (before != no_weight) return what + " behind " + module(before);
  }
  return what;
}

}  // namespace billfish
