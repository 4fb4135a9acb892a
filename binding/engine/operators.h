// Every operator, declared once: its name, its operands and what it does to them, its attributes, and what must hold.
//
// What follows from a declaration: the fields that TypeScript hands over (napi/operator_parser.cc), validation
// (program.h), lifetimes of values (for_each_value), the search for numbers that are not finite (stage.h), and a
// function run() of every backend (backend.h). docs/how-to/add-an-operator.md says what else an operator takes.
//
// Form is InProgram, where operands are numbers, or InCall, where they are memory. check() is asked of a program's.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish {
namespace operators {

// out = table[token ids - first], and zeros for tokens that have no row in the table.
template <class Form>
struct Embedding {
  static constexpr const char* name = "embedding";
  typename Form::Weight table;
  typename Form::Value out;
  int64_t first = 0;

  static constexpr auto fields() {
    using Self = Embedding;
    return std::tuple{weight("table", &Self::table, WeightUse::table), write("out", &Self::out),
                      attribute("first", &Self::first)};
  }
  void check(const OperatorCheck& check) const {
    const auto& rows = check.weight(table);
    const auto& value = check.value(out);
    if (value.rows != RowKind::tokens) check.fail("the rows of out are not those of the tokens");
    if (value.width != rows.in) check.fail("out is ", value.width, " wide, but table ", rows.name, " ", rows.in);
    if (first < 0) check.fail("the table begins at token ", first);
  }
};

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

// Rotates pairs of columns of every head, NeoX style: column i and column i + half of the head, half = the frequencies
// of Program::ropes[rope]. Columns from 2 * half on are left alone.
template <class Form>
struct Rope {
  static constexpr const char* name = "rope";
  typename Form::Value x;
  int32_t heads, head_dim, rope;

  static constexpr auto fields() {
    using Self = Rope;
    return std::tuple{update("x", &Self::x), attribute("heads", &Self::heads), attribute("headDim", &Self::head_dim),
                      attribute("rope", &Self::rope)};
  }
  void check(const OperatorCheck& check) const {
    check.heads(x, heads, head_dim);
    const auto pairs = static_cast<int64_t>(check.rope(rope).inverse_frequency.size());
    if (pairs * 2 > head_dim) check.fail("the rope turns ", pairs * 2, " columns of a head of ", head_dim);
  }
};

// Qwen v1's log-n attention: rows at 1-based position p > length are multiplied by log(p) / log(length).
template <class Form>
struct LogNScale {
  static constexpr const char* name = "logNScale";
  typename Form::Value x;
  int32_t length;

  static constexpr auto fields() {
    using Self = LogNScale;
    return std::tuple{update("x", &Self::x), attribute("length", &Self::length)};
  }
  void check(const OperatorCheck& check) const {
    if (check.value(x).rows != RowKind::tokens) check.fail("the rows of x are not those of the tokens");
    if (length <= 1) check.fail("length ", length, " does not exceed 1");
  }
};

// Attention over a layer of the KV cache, into which k and v are written first. Query heads share kv heads in order.
// Position i sees keys j <= i, with a window w only those with i - w < j. If `bidirectional` is 1, it sees all keys of
// its sequence, which the step must then have all rows of.
template <class Form>
struct Attention {
  static constexpr const char* name = "attention";
  typename Form::Value q, k, v, out;
  typename Form::CacheLayer layer;
  int32_t heads;
  float scale;
  int32_t window;
  int32_t bidirectional = 0;

  static constexpr auto fields() {
    using Self = Attention;
    return std::tuple{read("q", &Self::q),
                      read("k", &Self::k),
                      read("v", &Self::v),
                      write("out", &Self::out),
                      cache_layer("layer", &Self::layer),
                      attribute("heads", &Self::heads),
                      attribute("scale", &Self::scale),
                      attribute("window", &Self::window),
                      attribute("bidirectional", &Self::bidirectional)};
  }
  void check(const OperatorCheck& check) const {
    const auto& cache = check.cache_layer(layer);
    check.heads(q, heads, cache.head_dim);
    check.heads(k, cache.kv_heads, cache.head_dim);
    check.heads(v, cache.kv_heads, cache.head_dim);
    if (heads % cache.kv_heads != 0) check.fail(heads, " heads are no multiple of ", cache.kv_heads, " kv heads");
    if (window < 0 || !std::isfinite(scale)) check.fail("window is ", window, " and scale ", scale);
    if (bidirectional > 1 || (bidirectional == 1 && window > 0)) {
      check.fail("bidirectional is ", bidirectional, " with window ", window);
    }
    check.same_shape(q, out);
  }
};

// A causal convolution of every column by itself, and silu of it: with w = weight, [columns][taps],
//   out[t][c] = silu(sum over j < taps of w[c][j] * x[t - (taps - 1) + j][c]).
// Rows before the step's are the sequence's last taps - 1, which the state keeps, [taps - 1][columns], the oldest
// first.
template <class Form>
struct CausalConv {
  static constexpr const char* name = "causalConv";
  typename Form::Value x;
  typename Form::Weight weight;
  typename Form::Value out;
  typename Form::StateLayer state;
  int32_t taps;

  static constexpr auto fields() {
    using Self = CausalConv;
    return std::tuple{read("x", &Self::x), operators::weight("weight", &Self::weight, WeightUse::vector),
                      write("out", &Self::out), state_layer("state", &Self::state), attribute("taps", &Self::taps)};
  }
  void check(const OperatorCheck& check) const {
    const int64_t columns = check.value(x).width, stored = check.state_layer(state).width;
    const auto& factors = check.weight(weight);
    check.same_shape(x, out);
    check.same_class(x, out);
    check.heads(x, 1, columns);
    if (taps < 2 || taps > 16) check.fail(taps, " taps");
    if (factors.out != columns * taps) {
      check.fail("weight ", factors.name, " has ", factors.out, " values for ", columns, " columns of ", taps);
    }
    if (stored != columns * (taps - 1)) check.fail("a state of ", stored, " for ", columns, " columns of ", taps);
  }
};

// Rows of a state that a thread's stack has room for.
constexpr int64_t max_state_key_dim = 1024;

// The gated delta rule (arXiv 2412.06464). Each of `heads` value heads has a state S, [key dim][value dim], which every
// token first decays, then corrects towards its value, and then reads:
//   q' = q / sqrt(sum of q^2 + 1e-6) / sqrt(key dim)      k' = k / sqrt(sum of k^2 + 1e-6)
//   S *= exp(-exp(log_decay) * softplus(a + bias))
//   S += k' * (sigmoid(b) * (v - k' * S))                 out = q' * S
// Value heads share key heads in order. a and b have a column a value head.
template <class Form>
struct GatedDeltaRule {
  static constexpr const char* name = "gatedDeltaRule";
  typename Form::Value q, k, v, a, b;
  typename Form::Weight bias, log_decay;
  typename Form::Value out;
  typename Form::StateLayer state;
  int32_t heads, key_heads;

  static constexpr auto fields() {
    using Self = GatedDeltaRule;
    return std::tuple{read("q", &Self::q),
                      read("k", &Self::k),
                      read("v", &Self::v),
                      read("a", &Self::a),
                      read("b", &Self::b),
                      weight("bias", &Self::bias, WeightUse::vector),
                      weight("logDecay", &Self::log_decay, WeightUse::vector),
                      write("out", &Self::out),
                      state_layer("state", &Self::state),
                      attribute("heads", &Self::heads),
                      attribute("keyHeads", &Self::key_heads)};
  }
  void check(const OperatorCheck& check) const {
    if (key_heads < 1 || heads < key_heads || heads % key_heads != 0) {
      check.fail(heads, " heads are no multiple of ", key_heads, " key heads");
    }
    const int64_t key_dim = check.value(q).width / key_heads, value_dim = check.value(v).width / heads;
    const int64_t stored = check.state_layer(state).width;
    if (key_dim > max_state_key_dim) check.fail("key heads of ", key_dim, " columns");
    check.heads(q, key_heads, key_dim);
    check.heads(k, key_heads, key_dim);
    check.heads(v, heads, value_dim);
    check.heads(a, heads, 1);
    check.heads(b, heads, 1);
    check.same_shape(v, out);
    for (const ValueId gate : {a, b}) {
      if (check.value(gate).kind != ValueClass::logits) check.fail("a and b are not logits");
    }
    for (const ValueId value : {q, k, v, out}) {
      if (check.value(value).kind != ValueClass::activation) check.fail("heads are not activations");
    }
    for (const WeightId id : {bias, log_decay}) {
      const auto& own = check.weight(id);
      if (own.out != heads) check.fail("weight ", own.name, " has ", own.out, " values for ", heads, " heads");
    }
    if (stored != heads * key_dim * value_dim) {
      check.fail("a state of ", stored, " for ", heads, " heads of ", key_dim, " x ", value_dim);
    }
  }
};

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

// out = the rows of x whose logits are wanted: in a call, out.rows of them from number `first` on.
template <class Form>
struct Gather {
  static constexpr const char* name = "gather";
  typename Form::Value x, out;
  typename Form::FirstLogitRow first = {};

  static constexpr auto fields() {
    using Self = Gather;
    return std::tuple{read("x", &Self::x), write("out", &Self::out), first_logit_row(&Self::first)};
  }
  void check(const OperatorCheck& check) const {
    const auto& from = check.value(x);
    const auto& to = check.value(out);
    if (from.rows != RowKind::tokens || to.rows != RowKind::logits) check.fail("it goes from token rows to logit rows");
    if (from.width != to.width) check.fail("x is ", from.width, " wide, and out ", to.width);
  }
};

// --- What the stage does by itself (stage.cc): no backend runs these as operators.

// Hands a copy of x, all of its rows, to the step's result as hidden state `index`, if the step asked for hidden
// states.
template <class Form>
struct Tap {
  static constexpr const char* name = "tap";
  typename Form::Value x;
  int32_t index;

  static constexpr auto fields() {
    using Self = Tap;
    return std::tuple{read("x", &Self::x), attribute("index", &Self::index)};
  }
  void check(const OperatorCheck& check) const {
    if (index < 0 || index >= 65536) check.fail("index is ", index);
  }
};

// out = the sum of x over the ranks of the stage. Ranks meet here: Backend::all_reduce() sees the values of all.
template <class Form>
struct AllReduce {
  static constexpr const char* name = "allReduce";
  typename Form::Value x, out;

  static constexpr auto fields() {
    using Self = AllReduce;
    return std::tuple{consume("x", &Self::x), write("out", &Self::out)};
  }
  void check(const OperatorCheck& check) const {
    check.same_shape(x, out);
    if (check.value(x).view_of != no_value) check.fail("a view is summed over the ranks");
  }
};

// Columns [from, from + count) of a rank's value, which become those from `to` on.
struct GatheredPiece {
  int32_t rank;
  int64_t from, to, count;

  static constexpr auto fields() {
    using Self = GatheredPiece;
    return std::tuple{attribute("rank", &Self::rank), attribute("from", &Self::from), attribute("to", &Self::to),
                      attribute("count", &Self::count)};
  }
};

// out = pieces of all ranks' x beside each other. A rank without out only gives. Ranks meet here, too.
template <class Form>
struct AllGather {
  static constexpr const char* name = "allGather";
  typename Form::Value x, out;
  typename Form::template List<GatheredPiece> pieces;

  static constexpr auto fields() {
    using Self = AllGather;
    return std::tuple{read("x", &Self::x), optional_write("out", &Self::out), list("pieces", &Self::pieces)};
  }
  // The pieces cover out once. That they lie in the other ranks' values, validate_ranks() checks.
  void check(const OperatorCheck& check) const {
    if (!is_given(out)) return;
    if (check.value(x).rows != check.value(out).rows) check.fail("the rows of x and out are not the same");
    constexpr int64_t widest = int64_t{1} << 28;
    const int64_t width = check.value(out).width;
    std::vector<std::pair<int64_t, int64_t>> covered;
    for (const GatheredPiece& piece : pieces) {
      const bool inside = piece.to >= 0 && piece.count > 0 && piece.count <= width && piece.to <= width - piece.count;
      if (piece.rank < 0 || piece.from < 0 || piece.from > widest || !inside) {
        check.fail("a piece of ", piece.count, " columns from ", piece.from, " of rank ", piece.rank, " to ", piece.to,
                   " does not fit width ", width);
      }
      covered.emplace_back(piece.to, piece.to + piece.count);
    }
    std::sort(covered.begin(), covered.end());
    int64_t end = 0;
    for (const auto& [from, until] : covered) {
      if (from != end) check.fail("the pieces do not cover out once: column ", std::min(from, end));
      end = until;
    }
    if (end != width) check.fail("the pieces cover ", end, " of ", width, " columns");
  }
};

// What sends and receives have in common: the columns of `value` lie from column `at` on in the buffer of link `link`.
inline void check_link(const OperatorCheck& check, ValueId value, int32_t link, int64_t at) {
  constexpr int64_t widest = int64_t{1} << 28;
  const auto& matrix = check.value(value);
  if (matrix.rows != RowKind::tokens) check.fail("logit rows on link ", link);
  if (link < 0 || link >= 4096 || at < 0 || at > widest - matrix.width) {
    check.fail(matrix.width, " columns from ", at, " of link ", link);
  }
}

// Hands a copy of x to the other end of a link (link.h): a stage to one of its branches, or a branch back to its stage.
// Both meet here.
template <class Form>
struct Send {
  static constexpr const char* name = "send";
  typename Form::Value x;
  int32_t link;
  int64_t at;

  static constexpr auto fields() {
    using Self = Send;
    return std::tuple{read("x", &Self::x), attribute("link", &Self::link), attribute("at", &Self::at)};
  }
  void check(const OperatorCheck& check) const { check_link(check, x, link, at); }
};

// out = what the other end of a link sends.
template <class Form>
struct Receive {
  static constexpr const char* name = "receive";
  typename Form::Value out;
  int32_t link;
  int64_t at;

  static constexpr auto fields() {
    using Self = Receive;
    return std::tuple{write("out", &Self::out), attribute("link", &Self::link), attribute("at", &Self::at)};
  }
  void check(const OperatorCheck& check) const { check_link(check, out, link, at); }
};

}  // namespace operators

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
