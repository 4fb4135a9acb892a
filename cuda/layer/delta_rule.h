// What the kernels of the gated delta rule (engine/operators.h) share: their parameters, and a token's gates.
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "primitives/math.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// softplus(x) = log(1 + exp(x)): x where exp(x) would overflow, and three terms of the series, of which the next is
// less than 1e-7 of the sum, where 1 + exp(x) would lose its digits.
DEVICE float softplus(float x) {
  if (x > 20.0f) return x;
  const float e = exp(x);
  return x < -5.0f ? e * (1.0f - e * (0.5f - e * (1.0f / 3.0f))) : log(1.0f + e);
}

template <class Element>
struct DeltaRuleParameters {
  Global<const Element> q, k, v;
  Global<const float> a, b, bias, log_decay;
  Global<Element> out;
  Global<float> states;
  Global<const int32_t> row_sequence;
  Global<const DeviceSpan> spans;
  int64_t q_stride, k_stride, v_stride, a_stride, b_stride, out_stride, state_width;
  uint32_t heads_a_key, key_dim, value_dim;

  // Offset of a value head's first column in v and out; of its key head's in q and k.
  DEVICE int64_t value_column(uint32_t head) const { return static_cast<int64_t>(head) * value_dim; }
  DEVICE int64_t key_column(uint32_t head) const { return static_cast<int64_t>(head / heads_a_key) * key_dim; }
  // A head's state, [key_dim][value_dim].
  DEVICE Global<float> state_of(const DeviceSpan& span, uint32_t head) const {
    return states + (span.slot * state_width + static_cast<int64_t>(head) * key_dim * value_dim);
  }
  // A token with gate a decays the state by exp(-rate), and corrects it by beta of gate b.
  DEVICE float rate_of(float gate, uint32_t head) const {
    const float own_bias = bias[head], own_decay = log_decay[head];
    return exp(own_decay) * softplus(gate + own_bias);
  }
  DEVICE static float beta_of(float gate) { return 1.0f / (1.0f + exp(-gate)); }
};

}  // namespace billfish::BILLFISH_TARGET
