// Operators that keep a state of every sequence (Gated DeltaNet). See operators.h.
#pragma once
#include <cstdint>
#include <tuple>

#include "engine/operands.h"
#include "engine/operator_check.h"
#include "engine/operator_fields.h"

namespace billfish::operators {

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

}  // namespace billfish::operators
