// Merges the partial results of tiles whose keys were split: one block per packed row and kv head. Groups of head_dim /
// 4 threads share the parts, so that about 16 loads of 16 bytes are in flight at a time and the merge takes only a few
// trips to L2.
#pragma once
#include "layer/attention_tile.h"
#include "layer/vector.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

template <class Element>
struct MergeAttention {
  static constexpr int max_threads = attention_threads;
  static constexpr int max_splits = attention_threads, max_head_dim = 256;

  // Shared memory: weights of the parts | scratch of the reductions | outputs of the groups.
  static constexpr uint32_t scratch_at = max_splits * sizeof(float);
  static constexpr uint32_t outputs_at = scratch_at + 32 * sizeof(float);
  static constexpr uint32_t shared_bytes = outputs_at + attention_threads * 4 * sizeof(float);

  AttentionParameters<Element> p;  // `items` is unused
  Global<const AttentionMerge> merges;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const DeviceAttentionPlan::Counts counts = *p.counts;
    const auto number = static_cast<int32_t>(block_index().x), row = static_cast<int32_t>(block_index().z);
    if (number >= counts.merges) return;
    const AttentionMerge merge = merges[number];
    if (row >= merge.rows) return;
    const DeviceSpan span = p.spans[merge.sequence];
    const AttentionItem item{merge.sequence, merge.first_row, 0, 0, merge.first_partial};
    merge_row({p, item, span, static_cast<int32_t>(block_index().y)}, merge, row);
  }

 private:
  DEVICE void merge_row(const QueryTile<Element>& tile, const AttentionMerge& merge, int32_t row) const {
    const Shared<float> weights = shared_memory<float>(), scratch = shared_memory<float>(scratch_at);
    const Shared<float> outputs = shared_memory<float>(outputs_at);
    const auto thread = static_cast<int32_t>(thread_index().x);
    const int64_t first_row = tile.partial_row(row);
    const int64_t row_step = static_cast<int64_t>(merge.partial_step) * p.kv_heads * warp_rows;

    float2 state{no_score, 0};
    if (thread < merge.splits) state = p.partial.states[first_row + thread * row_step];
    const float maximum = block_max(state.x, scratch);
    const bool has_seen_none = state.x == no_score && state.y == 0;  // with NaN scores the sum would be NaN
    const float weight = has_seen_none ? 0.0f : exp2_approx(state.x - maximum);
    const float sum = block_sum(weight * state.y, scratch);
    weights[thread] = weight / sum;
    sync_threads();

    const int32_t group_threads = p.head_dim / 4, groups = attention_threads / group_threads;
    const int32_t group = thread / group_threads, column = thread % group_threads * 4;
    if (group < groups) {
      float output[4] = {};
      UNROLL for (int32_t split = group; split < merge.splits; split += groups) {
        const float factor = weights[split];
        float values[4];
        load_floats<4, float>(p.partial.outputs + ((first_row + split * row_step) * p.head_dim + column), values);
        // A part whose keys this row does not see has weight zero.
        UNROLL for (int j = 0; j < 4; ++j) output[j] += factor * values[j];
      }
      store_floats_shared(outputs + (group * p.head_dim + column), output);
    }
    sync_threads();
    if (group != 0) return;
    float output[4] = {};
    for (int32_t other = 0; other < groups; ++other) {
      const auto values = load_as<float4>(outputs + (other * p.head_dim + column));
      output[0] += values.x;
      output[1] += values.y;
      output[2] += values.z;
      output[3] += values.w;
    }
    store_floats<4, Element>(p.out + (tile.offset_of(merge.first_row + row, p.out_stride) + column), output);
  }
  DEVICE static void store_floats_shared(Shared<float> to, const float (&from)[4]) {
    store_as<float4>(to, float4{from[0], from[1], from[2], from[3]});
  }
};

}  // namespace billfish::BILLFISH_TARGET
