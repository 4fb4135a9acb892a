#include "engine/program.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/error.h"
#include "engine/overloaded.h"

namespace billfish {
namespace {

// Checks operators in order, tracking which values have been written.
class Validator {
 public:
  static constexpr int64_t widest = int64_t{1} << 28;   // columns of a value
  static constexpr int64_t longest = int64_t{1} << 31;  // rows of a weight

  Validator(const Program& program, const std::vector<WeightShape>& weights)
      : program_(program), weights_(weights), defined_(program.values.size(), false) {}

  void run() {
    check_declarations();
    check_weights();
    if (program_.input != no_value) define(program_.input);
    for (index_ = 0; index_ < program_.operators.size(); ++index_) check_operator(program_.operators[index_]);
    index_ = program_.operators.size();
    if (program_.output == no_value) fail("there is no output value");
    read(program_.output);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::string where = index_ < program_.operators.size() ? "operator " + std::to_string(index_) + " (" +
                                                                 operator_name(program_.operators[index_]) + ")"
                                                           : "declarations";
    throw Error("INTERNAL", "The program of a stage is not valid: " + where + ": " + what +
                                ". This is a mistake in the model's definition, please report it.");
  }
  void require(bool condition, const std::string& what) const {
    if (!condition) fail(what);
  }

  // A config may ask for any size: within these limits no count of bytes overflows.
  static void at_most(int64_t most, int64_t number, const std::string& what) {
    if (number <= most) return;
    throw Error("UNSUPPORTED_MODEL", std::to_string(number) + " " + what +
                                         " are more than billfish computes with: " + std::to_string(most) + ".");
  }

  void check_declarations() {
    index_ = std::numeric_limits<size_t>::max();
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
  }

  void check_weights() const {
    for (const WeightShape& shape : weights_) {
      require(shape.out > 0 && shape.in > 0 && (shape.kind != WeightKind::quantized || shape.group_size > 0),
              "weight " + shape.name + " has no rows, columns or groups");
      at_most(longest, shape.out, "rows of " + shape.name);
      at_most(widest, shape.in, "columns of " + shape.name);
    }
  }

  const Value& value(ValueId id) const {
    require(id >= 0 && id < static_cast<ValueId>(program_.values.size()), "no value " + std::to_string(id));
    return program_.values[id];
  }
  ValueId base(ValueId id) const {
    const Value& v = value(id);
    return v.view_of == no_value ? id : v.view_of;
  }
  const Value& read(ValueId id) const {
    const Value& v = value(id);
    require(defined_[base(id)], "value " + std::to_string(id) + " is read before it is written");
    return v;
  }
  const Value& define(ValueId id) {
    const Value& v = value(id);
    require(v.view_of == no_value, "value " + std::to_string(id) + " is a view and cannot be written as a whole");
    require(!defined_[id], "value " + std::to_string(id) + " is written twice");
    defined_[id] = true;
    return v;
  }
  const WeightShape& weight(WeightId id, bool vector) const {
    require(id >= 0 && id < static_cast<WeightId>(weights_.size()), "no weight " + std::to_string(id));
    const WeightShape& shape = weights_[id];
    require((shape.kind == WeightKind::vector) == vector, "weight " + shape.name + " is of the wrong kind");
    return shape;
  }
  void same_shape(const Value& a, const Value& b) const {
    require(a.width == b.width && a.rows == b.rows,
            "operands differ in shape: widths " + std::to_string(a.width) + " and " + std::to_string(b.width));
  }

  void check_operator(const Operator& op) {
    std::visit(Overloaded{
                   [&](const Embedding& o) {
                     const WeightShape& table = weight(o.table, false);
                     require(table.kind == WeightKind::matrix, "the embedding table " + table.name + " is quantized");
                     const Value& out = define(o.out);
                     require(out.rows == RowKind::tokens && out.width == table.in, "table and output widths differ");
                     require(o.first >= 0, "the table begins before the first token");
                   },
                   [&](const RmsNorm& o) { check_norm(o.x, o.weight, o.width, o.eps, o.out); },
                   [&](const AddRmsNorm& o) {
                     same_shape(read(o.x), read(o.y));
                     check_norm(o.x, o.weight, value(o.x).width, o.eps, o.out);
                   },
                   [&](const LayerNorm& o) {
                     const int64_t width = value(o.x).width;
                     check_norm(o.x, o.weight, width, o.eps, o.out);
                     if (o.bias == no_weight) return;
                     const WeightShape& bias = weight(o.bias, true);
                     require(bias.out == width, "norm bias " + bias.name + " has " + std::to_string(bias.out) +
                                                    " values for width " + std::to_string(width));
                   },
                   [&](const Linear& o) {
                     const Value& x = read(o.x);
                     require(!o.targets.empty(), "no targets");
                     for (const LinearTarget& target : o.targets) {
                       const WeightShape& w = weight(target.weight, false);
                       const Value& out = define(target.out);
                       require(x.width == w.in && out.width == w.out && out.rows == x.rows,
                               "weight " + w.name + " [" + std::to_string(w.out) + ", " + std::to_string(w.in) +
                                   "] does not fit input width " + std::to_string(x.width) + " and output width " +
                                   std::to_string(out.width));
                     }
                   },
                   [&](const Rope& o) {
                     check_heads(read(o.x), o.heads, o.head_dim);
                     require(o.rope >= 0 && o.rope < static_cast<int32_t>(program_.ropes.size()), "no such rope");
                     require(static_cast<int64_t>(program_.ropes[o.rope].inverse_frequency.size()) * 2 <= o.head_dim,
                             "the rope is wider than a head");
                   },
                   [&](const LogNScale& o) {
                     require(read(o.x).rows == RowKind::tokens && o.length > 1, "length must exceed 1");
                   },
                   [&](const Attention& o) {
                     require(o.layer >= 0 && o.layer < static_cast<int32_t>(program_.cache_layers.size()),
                             "no cache layer " + std::to_string(o.layer));
                     const CacheLayer& layer = program_.cache_layers[o.layer];
                     check_heads(read(o.q), o.heads, layer.head_dim);
                     check_heads(read(o.k), layer.kv_heads, layer.head_dim);
                     check_heads(read(o.v), layer.kv_heads, layer.head_dim);
                     require(o.heads % layer.kv_heads == 0, std::to_string(o.heads) + " heads are no multiple of " +
                                                                std::to_string(layer.kv_heads) + " kv heads");
                     require(o.window >= 0 && std::isfinite(o.scale), "window or scale out of range");
                     same_shape(define(o.out), value(o.q));
                   },
                   [&](const SiluMul& o) { same_shape(read(o.gate), read(o.up)); },
                   [&](const Add& o) { same_shape(read(o.x), read(o.y)); },
                   [&](const Gather& o) {
                     const Value& x = read(o.x);
                     const Value& out = define(o.out);
                     require(x.rows == RowKind::tokens && out.rows == RowKind::logits && x.width == out.width,
                             "a gather goes from token rows to logit rows of the same width");
                   },
                   [&](const Tap& o) {
                     read(o.x);
                     require(o.index >= 0 && o.index < 65536, "index out of range");
                   },
                   [&](const AllReduce& o) {
                     same_shape(read(o.x), define(o.out));
                     require(value(o.x).view_of == no_value, "a view is summed over the ranks");
                     defined_[o.x] = false;
                   },
                   [&](const AllGather& o) {
                     const Value& x = read(o.x);
                     if (o.out == no_value) return;
                     const Value& out = define(o.out);
                     require(x.rows == out.rows, "x and out differ in rows");
                     check_pieces(o.pieces, out.width);
                   },
               },
               op);
  }

  void check_norm(ValueId x_id, WeightId weight_id, int64_t width, float eps, ValueId out_id) {
    const Value& x = read(x_id);
    const WeightShape& w = weight(weight_id, true);
    require(width == w.out && width > 0 && x.width % width == 0,
            "norm weight " + w.name + " has " + std::to_string(w.out) + " values for width " + std::to_string(x.width));
    require(std::isfinite(eps) && eps >= 0, "eps out of range");
    if (out_id != x_id) same_shape(x, define(out_id));
  }

  // They cover the value exactly once. validate_ranks() checks them against the other ranks' values.
  void check_pieces(const std::vector<GatheredPiece>& pieces, int64_t width) const {
    std::vector<std::pair<int64_t, int64_t>> covered;
    for (const GatheredPiece& piece : pieces) {
      require(piece.rank >= 0 && piece.from >= 0 && piece.to >= 0 && piece.count > 0 && piece.from <= widest &&
                  piece.count <= widest && piece.to <= width - piece.count,
              "a piece lies outside its value");
      covered.emplace_back(piece.to, piece.to + piece.count);
    }
    std::sort(covered.begin(), covered.end());
    int64_t end = 0;
    for (const auto& [from, until] : covered) {
      require(from == end, "the pieces do not cover the value once");
      end = until;
    }
    require(end == width, "the pieces do not cover the value");
  }

  void check_heads(const Value& x, int32_t heads, int32_t head_dim) const {
    require(heads > 0 && head_dim > 0 && static_cast<int64_t>(heads) * head_dim == x.width && x.rows == RowKind::tokens,
            std::to_string(heads) + " heads of " + std::to_string(head_dim) + " do not make width " +
                std::to_string(x.width));
  }

  const Program& program_;
  const std::vector<WeightShape>& weights_;
  std::vector<bool> defined_;
  size_t index_ = 0;
};

}  // namespace

void for_each_value(const Operator& op, const std::function<void(ValueId, bool)>& visit) {
  std::visit(Overloaded{
                 [&](const Embedding& o) { visit(o.out, true); },
                 [&](const RmsNorm& o) {
                   visit(o.x, false);
                   if (o.out != o.x) visit(o.out, true);
                 },
                 [&](const AddRmsNorm& o) {
                   visit(o.x, false);
                   visit(o.y, false);
                   visit(o.out, true);
                 },
                 [&](const LayerNorm& o) {
                   visit(o.x, false);
                   if (o.out != o.x) visit(o.out, true);
                 },
                 [&](const Linear& o) {
                   visit(o.x, false);
                   for (const LinearTarget& target : o.targets) visit(target.out, true);
                 },
                 [&](const Rope& o) { visit(o.x, false); },
                 [&](const LogNScale& o) { visit(o.x, false); },
                 [&](const Attention& o) {
                   visit(o.q, false);
                   visit(o.k, false);
                   visit(o.v, false);
                   visit(o.out, true);
                 },
                 [&](const SiluMul& o) {
                   visit(o.gate, false);
                   visit(o.up, false);
                 },
                 [&](const Add& o) {
                   visit(o.x, false);
                   visit(o.y, false);
                 },
                 [&](const Gather& o) {
                   visit(o.x, false);
                   visit(o.out, true);
                 },
                 [&](const Tap& o) { visit(o.x, false); },
                 [&](const AllReduce& o) {
                   visit(o.x, false);
                   visit(o.out, true);
                 },
                 [&](const AllGather& o) {
                   visit(o.x, false);
                   if (o.out != no_value) visit(o.out, true);
                 },
             },
             op);
}

void for_each_weight(const Operator& op, const std::function<void(WeightId)>& visit) {
  std::visit(Overloaded{
                 [&](const Embedding& o) { visit(o.table); },
                 [&](const RmsNorm& o) { visit(o.weight); },
                 [&](const AddRmsNorm& o) { visit(o.weight); },
                 [&](const LayerNorm& o) {
                   visit(o.weight);
                   if (o.bias != no_weight) visit(o.bias);
                 },
                 [&](const Linear& o) {
                   for (const LinearTarget& target : o.targets) visit(target.weight);
                 },
                 [](const auto&) {},
             },
             op);
}

const char* operator_name(const Operator& op) {
  static constexpr const char* names[] = {"embedding", "rmsNorm",   "addRmsNorm", "layerNorm", "linear",
                                          "rope",      "logNScale", "attention",  "siluMul",   "add",
                                          "gather",    "tap",       "allReduce",  "allGather"};
  static_assert(std::variant_size_v<Operator> == sizeof(names) / sizeof(names[0]));
  return names[op.index()];
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
      const bool is_exchange = std::holds_alternative<AllReduce>(op) || std::holds_alternative<AllGather>(op);
      if (is_exchange) own.push_back({op.index(), program, &op});
    }
  }
  const auto width_of = [](const Program& program, ValueId id) { return program.values[id].width; };
  for (const auto& own : exchanges) {
    require(own.size() == exchanges[0].size(), "they have different numbers of collectives");
    for (size_t i = 0; i < own.size(); ++i) {
      require(own[i].kind == exchanges[0][i].kind, "they have different collectives");
      if (const auto* reduce = std::get_if<AllReduce>(own[i].op)) {
        const auto& first = std::get<AllReduce>(*exchanges[0][i].op);
        require(width_of(*own[i].program, reduce->x) == width_of(*programs[0], first.x), "they sum different widths");
        continue;
      }
      for (const GatheredPiece& piece : std::get<AllGather>(*own[i].op).pieces) {
        require(piece.rank < static_cast<int32_t>(programs.size()), "one receives from a rank that does not exist");
        const Program& other = *programs[static_cast<size_t>(piece.rank)];
        const auto& source = std::get<AllGather>(*exchanges[static_cast<size_t>(piece.rank)][i].op);
        require(piece.from + piece.count <= width_of(other, source.x), "one receives more than another has");
      }
    }
  }
}

void validate(const Program& program, const std::vector<WeightShape>& weights) { Validator(program, weights).run(); }

}  // namespace billfish
