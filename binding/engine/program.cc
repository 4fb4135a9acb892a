#include "engine/program.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"

namespace billfish {

// --- What the operators' own checks ask.

void OperatorCheck::refuse(const std::string& what) const {
  std::string where = "declarations";
  if (index_ < program_.operators.size()) {
    where = "operator " + std::to_string(index_) + " (" + operator_name(program_.operators[index_]) + ")";
  }
  throw Error("INTERNAL", "The program of a stage is not valid: " + where + ": " + what +
                              ". This is a mistake in the model's definition, please report it.");
}

template <class T>
static bool has(const std::vector<T>& list, int32_t index) {
  return index >= 0 && static_cast<size_t>(index) < list.size();
}

const Value& OperatorCheck::value(ValueId id) const {
  if (!has(program_.values, id)) fail("no value ", id);
  return program_.values[id];
}

const WeightShape& OperatorCheck::weight(WeightId id) const {
  if (!has(weights_, id)) fail("no weight ", id);
  return weights_[id];
}

const RopeSpec& OperatorCheck::rope(int32_t index) const {
  if (!has(program_.ropes, index)) fail("no rope ", index);
  return program_.ropes[index];
}

const CacheLayer& OperatorCheck::cache_layer(int32_t index) const {
  if (!has(program_.cache_layers, index)) fail("no cache layer ", index);
  return program_.cache_layers[index];
}

const StateLayer& OperatorCheck::state_layer(int32_t index) const {
  if (!has(program_.state_layers, index)) fail("no state layer ", index);
  return program_.state_layers[index];
}

void OperatorCheck::same_class(ValueId a, ValueId b) const {
  if (value(a).kind != value(b).kind) fail("operands are of different classes");
}

void OperatorCheck::same_shape(ValueId a, ValueId b) const {
  const Value &one = value(a), &other = value(b);
  if (one.width != other.width) fail("operands differ in width: ", one.width, " and ", other.width);
  if (one.rows != other.rows) fail("one operand has token rows, the other logit rows");
}

void OperatorCheck::heads(ValueId x, int64_t heads, int64_t head_dim) const {
  const Value& value = this->value(x);
  if (heads <= 0 || head_dim <= 0 || heads * head_dim != value.width) {
    fail(heads, " heads of ", head_dim, " do not make width ", value.width);
  }
  if (value.rows != RowKind::tokens) fail("heads of logit rows");
}

namespace {

// Checks operators in order, tracking which values have been written.
class Validator : private OperatorCheck {
 public:
  Validator(const Program& program, const std::vector<WeightShape>& weights)
      : OperatorCheck(program, weights), defined_(program.values.size(), false) {}

  void run() {
    check_declarations();
    check_weights();
    if (program_.input != no_value) define(program_.input);
    for (index_ = 0; index_ < program_.operators.size(); ++index_) {
      std::visit([&](const auto& op) { check_operator(op); }, program_.operators[index_]);
    }
    index_ = no_operator;
    const auto sends = [](const Operator& op) { return std::holds_alternative<Send>(op); };
    if (program_.output != no_value) {
      read(program_.output);
      const bool is_of_all = value(program_.output).rows == RowKind::tokens;
      if (is_of_all && !program_.hands_over) fail("the model's output has rows that are not wanted");
    } else if (std::none_of(program_.operators.begin(), program_.operators.end(), sends)) {
      fail("there is no output value");
    }
  }

 private:
  static constexpr int64_t widest = int64_t{1} << 28;   // columns of a value
  static constexpr int64_t longest = int64_t{1} << 31;  // rows of a weight

  void require(bool condition, const std::string& what) const {
    if (!condition) refuse(what);
  }

  // A config may ask for any size: within these limits no count of bytes overflows.
  static void at_most(int64_t most, int64_t number, const std::string& what) {
    if (number <= most) return;
    throw Error("UNSUPPORTED_MODEL", std::to_string(number) + " " + what +
                                         " are more than billfish computes with: " + std::to_string(most) + ".");
  }

  void check_declarations() {
    for (size_t i = 0; i < program_.values.size(); ++i) {
      const Value& value = program_.values[i];
      const std::string name = "value " + std::to_string(i);
      require(value.width > 0, name + " has width " + std::to_string(value.width));
      at_most(widest, value.width, "columns of a layer");
      if (value.view_of == no_value) continue;
      require(value.view_of >= 0 && value.view_of < static_cast<ValueId>(i), name + " views a later value");
      const Value& base = program_.values[value.view_of];
      require(base.view_of == no_value, name + " views a view");
      require(base.kind == value.kind, name + " is of another class than the value that it views");
      require(value.view_start >= 0 && value.view_start + value.width <= base.width && value.rows == base.rows,
              name + " reaches outside the value that it views");
    }
    for (const RopeSpec& rope : program_.ropes) {
      require(!rope.inverse_frequency.empty(), "a rope without frequencies");
      at_most(4096, static_cast<int64_t>(rope.inverse_frequency.size()), "frequencies of a rotary embedding");
      for (float frequency : rope.inverse_frequency) require(std::isfinite(frequency), "a frequency is not finite");
    }
    for (const CacheLayer& layer : program_.cache_layers) {
      require(layer.kv_heads > 0 && layer.head_dim > 0, "a cache layer without heads");
      at_most(65536, layer.kv_heads, "key-value heads");
      at_most(65536, layer.head_dim, "columns of a head (head_dim)");
    }
    for (const StateLayer& layer : program_.state_layers) {
      require(layer.width > 0, "a state layer without numbers");
      at_most(longest, layer.width, "numbers in the state of a layer");
    }
  }

  void check_weights() const {
    for (const WeightShape& shape : weights_) {
      require(shape.out > 0 && shape.in > 0 && (shape.kind != WeightKind::quantized || shape.group_size > 0),
              "weight " + shape.name + " has no rows, columns or groups");
      at_most(longest, shape.out, "rows of " + shape.name);
      require(
          shape.experts >= 0 && (shape.experts == 0 || (shape.expert_out > 0 && shape.expert_out <= shape.out &&
                                                        shape.out == shape.experts * expert_rows(shape.expert_out))),
          "weight " + shape.name + " has other rows than those of its experts");
      at_most(widest, shape.in, "columns of " + shape.name);
    }
  }

  ValueId base(ValueId id) const {
    const Value& v = value(id);
    return v.view_of == no_value ? id : v.view_of;
  }
  void read(ValueId id) const {
    if (!defined_[base(id)]) fail("value ", id, " is read before it is written");
  }
  void define(ValueId id) {
    if (value(id).view_of != no_value) fail("value ", id, " is a view and cannot be written as a whole");
    if (defined_[id]) fail("value ", id, " is written twice");
    defined_[id] = true;
  }
  void check_kind(WeightId id, WeightUse use) const {
    const WeightShape& shape = weight(id);
    if ((shape.kind == WeightKind::vector) != (use == WeightUse::vector)) {
      fail("weight ", shape.name, " is of the wrong kind");
    }
    if (use != WeightUse::linear && shape.experts > 0) fail("weight ", shape.name, " is of experts");
    if (use == WeightUse::table && shape.kind != WeightKind::matrix) fail("table ", shape.name, " is quantized");
  }

  // What its fields say, and then what it says itself.
  template <class Op>
  void check_operator(const Op& op) {
    for_each_operand(op, [&](const auto& field, int32_t id) {
      if constexpr (kind_of<decltype(field)> == FieldKind::weight) {
        check_kind(id, field.use);
      } else if (field.role == Role::read || field.role == Role::update || field.role == Role::consume) {
        read(id);
      }
    });
    for_each_value(program_.operators[index_], [&](ValueId id, bool is_output) {
      if (is_output) define(id);
    });
    op.check(*this);
    for_each_operand(op, [&](const auto& field, int32_t id) {
      if constexpr (kind_of<decltype(field)> == FieldKind::value) {
        if (field.role == Role::consume) defined_[id] = false;
      }
    });
  }

  std::vector<bool> defined_;
};

}  // namespace

bool is_exchange(const Operator& op) {
  return std::holds_alternative<AllReduce>(op) || std::holds_alternative<AllGather>(op) ||
         std::holds_alternative<Send>(op) || std::holds_alternative<Receive>(op);
}

void validate_ranks(const std::vector<const Program*>& programs) {
  const auto require = [](bool condition, const std::string& what) {
    if (condition) return;
    throw Error("INTERNAL", "The programs of a stage's ranks do not fit together: " + what +
                                ". This is a mistake in the model's definition, please report it.");
  };
  struct Exchange {
    size_t kind;
    const Program* program;
    const Operator* op;
  };
  std::vector<std::vector<Exchange>> exchanges;
  for (const Program* program : programs) {
    std::vector<Exchange>& own = exchanges.emplace_back();
    for (const Operator& op : program->operators) {
      if (is_exchange(op)) own.push_back({op.index(), program, &op});
    }
  }
  const auto width_of = [](const Program& program, ValueId id) { return program.values[id].width; };
  for (const auto& own : exchanges) {
    require(own.size() == exchanges[0].size(), "they have different numbers of exchanges");
    bool has_received = false;      // from a branch, since the last collective
    bool sends_logit_rows = false;  // in the part that is run chunk by chunk
    for (size_t i = 0; i < own.size(); ++i) {
      require(own[i].kind == exchanges[0][i].kind, "they have different exchanges");
      const Operator& first = *exchanges[0][i].op;
      if (const auto* send = std::get_if<Send>(own[i].op)) {
        const auto& other = std::get<Send>(first);
        require(send->link == other.link && send->at == other.at, "they send to different places");
        require(!has_received, "one might send before the others have received");
        sends_logit_rows |= own[i].program->values[send->x].rows == RowKind::logits;
        continue;
      }
      if (const auto* receive = std::get_if<Receive>(own[i].op)) {
        const auto& other = std::get<Receive>(first);
        require(receive->link == other.link && receive->at == other.at, "they receive from different places");
        require(width_of(*own[i].program, receive->out) == width_of(*programs[0], other.out),
                "they receive different widths");
        has_received = true;
        continue;
      }
      has_received = false;
      if (const auto* reduce = std::get_if<AllReduce>(own[i].op)) {
        const auto& other = std::get<AllReduce>(first);
        require(width_of(*own[i].program, reduce->x) == width_of(*programs[0], other.x), "they sum different widths");
        continue;
      }
      for (const GatheredPiece& piece : std::get<AllGather>(*own[i].op).pieces) {
        require(piece.rank < static_cast<int32_t>(programs.size()), "one receives from a rank that does not exist");
        const Program& other = *programs[static_cast<size_t>(piece.rank)];
        const auto& source = std::get<AllGather>(*exchanges[static_cast<size_t>(piece.rank)][i].op);
        require(piece.from + piece.count <= width_of(other, source.x), "one receives more than another has");
      }
    }
    require(!has_received || !sends_logit_rows, "one might send the next rows before the others have received");
  }
}

void validate(const Program& program, const std::vector<WeightShape>& weights) { Validator(program, weights).run(); }

}  // namespace billfish
