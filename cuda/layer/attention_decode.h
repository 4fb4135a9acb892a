// Attention for spans of at most 16 packed rows (one token of a model with up to 16 query heads per kv head, or a few
// tokens of a model with fewer). Each of the four warps takes every fourth run of 16 keys and copies it itself, without
// a block barrier; the warps' results are combined at the end.
//
// Keys and values are read from memory once for all heads of the group: 4 head_dim bytes per key and kv head. A run of
// 16 keys is 8 KiB at head_dim 128. Twelve warps (three blocks of 74 KiB) keep 96 KiB in flight on a multiprocessor of
// an H200, three times the 29 KiB that 4.8 TB/s at 800 ns of latency require.
#pragma once
#include "layer/attention_tile.h"
#include "layer/vector.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

template <class Element, int columns>
struct DecodeAttention {
  static constexpr int max_threads = attention_threads;
  static constexpr int min_blocks = columns <= 128 ? 3 : 1;
  static constexpr int stages = columns <= 128 ? 2 : 1, run_keys = 16;  // wide heads: what fits into 99 KiB
  using Rows = SharedRows<Element, columns>;

  // Shared memory: queries | maximum and sum of each warp's rows | each warp's stages of keys and values, whose front
  // holds the warps' outputs in the end.
  static constexpr uint32_t states_at = Rows::bytes(warp_rows);
  static constexpr uint32_t stages_at = states_at + attention_warps * warp_rows * sizeof(float2);
  static constexpr uint32_t half_stage_bytes = Rows::bytes(run_keys);
  static constexpr uint32_t shared_bytes = stages_at + attention_warps * stages * 2 * half_stage_bytes;
  static_assert(shared_bytes <= 99 * 1024, "what a block may have on every architecture from sm_80 on");
  static constexpr int output_stride = columns + 8;
  static_assert(attention_warps * warp_rows * output_stride * sizeof(float) <= shared_bytes - stages_at);

  AttentionParameters<Element> p;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const DeviceAttentionPlan::Counts counts = *p.counts;
    const auto number = static_cast<int32_t>(block_index().x);
    if (number >= counts.decode) return;
    const AttentionItem item = p.items[number];
    const DeviceSpan span = p.spans[item.sequence];
    attend({p, item, span, static_cast<int32_t>(block_index().y)});
  }

 private:
  DEVICE void attend(const QueryTile<Element>& tile) const {
    const int thread = static_cast<int>(thread_index().x), lane = static_cast<int>(lane_index());
    const int warp = static_cast<int>(warp_index());
    const Rows queries{shared_memory<Element>()};
    const int32_t first_key = tile.item.key_begin / run_keys * run_keys;
    const int32_t runs = ceil_div(tile.item.key_end - first_key, run_keys);

    const auto stage_rows = [&](int stage, int which) {
      const auto part = static_cast<uint32_t>((warp * stages + stage) * 2 + which);
      return Rows{shared_memory<Element>(stages_at + part * half_stage_bytes)};
    };
    const auto copy_run = [&](int32_t run) {
      if (run < runs) {
        const int stage = run / attention_warps % stages;
        copy_16_positions<32>(tile, first_key + run * run_keys, stage_rows(stage, 0), stage_rows(stage, 1), 0, lane);
      }
      cp_async_commit();
    };

    copy_queries<warp_rows, attention_threads>(tile, queries, thread);
    cp_async_commit();
    UNROLL for (int stage = 0; stage < stages - 1; ++stage) copy_run(warp + stage * attention_warps);
    cp_async_wait<stages - 1>();
    sync_threads();
    RowState<Element, columns, run_keys> state;
    state.begin(tile, queries, 0);
    // Every row sees every key of a run within [no_mask_from, no_mask_to).
    const int32_t last_row = min(tile.packed_rows(), tile.item.first_row + warp_rows) - 1;
    const int32_t no_mask_to = min(tile.item.key_end, tile.position_of(tile.item.first_row) + 1);
    const int32_t window_begin = p.window > 0 ? tile.position_of(last_row) - p.window + 1 : 0;
    const int32_t no_mask_from = max(tile.item.key_begin, window_begin);
    for (int32_t run = warp; run < runs; run += attention_warps) {
      copy_run(run + (stages - 1) * attention_warps);
      cp_async_wait<stages - 1>();
      sync_warp();
      const int stage = run / attention_warps % stages;
      const int32_t first = first_key + run * run_keys;
      const bool masked = first < no_mask_from || first + run_keys > no_mask_to;
      state.visit(tile, queries, 0, stage_rows(stage, 0), stage_rows(stage, 1), first, masked);
      sync_warp();  // all lanes have read the stage
    }
    state.finish();
    cp_async_wait<0>();
    sync_threads();
    put_in_shared(state, warp);
    sync_threads();
    combine_warps(tile);
  }

  DEVICE void put_in_shared(const RowState<Element, columns, run_keys>& state, int warp) const {
    const int lane = static_cast<int>(lane_index());
    const Shared<float2> states = shared_memory<float2>(states_at);
    const Shared<float> outputs = shared_memory<float>(stages_at);
    UNROLL for (int half = 0; half < 2; ++half) {
      const int row = warp * warp_rows + lane / 4 + 8 * half;
      if (lane % 4 == 0) states[row] = float2{state.maximum[half], state.sum[half]};
      UNROLL for (int block = 0; block < columns / 8; ++block) {
        store_as<float2>(outputs + (row * output_stride + block * 8 + lane % 4 * 2),
                         float2{state.output[block][2 * half], state.output[block][2 * half + 1]});
      }
    }
  }

  // One thread per four columns of a row.
  DEVICE void combine_warps(const QueryTile<Element>& tile) const {
    const Shared<const float2> states = shared_memory<const float2>(states_at);
    const Shared<const float> outputs = shared_memory<const float>(stages_at);
    const int32_t rows = min(tile.packed_rows() - tile.item.first_row, warp_rows);
    const int32_t row_threads = p.head_dim / 4;
    for (int32_t i = static_cast<int32_t>(thread_index().x); i < rows * row_threads; i += attention_threads) {
      const int32_t row = i / row_threads, column = i % row_threads * 4;
      float maximum = no_score, sum = 0, output[4] = {};
      UNROLL for (int warp = 0; warp < attention_warps; ++warp) {
        const float2 state = states[warp * warp_rows + row];
        maximum = max(maximum, state.x);
      }
      UNROLL for (int warp = 0; warp < attention_warps; ++warp) {
        const float2 state = states[warp * warp_rows + row];
        if (state.x == no_score && state.y == 0) continue;  // it has seen no key; with NaN scores the sum would be NaN
        const float weight = exp2_approx(state.x - maximum);
        const auto values = load_as<float4>(outputs + ((warp * warp_rows + row) * output_stride + column));
        sum += weight * state.y;
        output[0] += weight * values.x;
        output[1] += weight * values.y;
        output[2] += weight * values.z;
        output[3] += weight * values.w;
      }
      if (tile.item.partial >= 0) {
        const int64_t to = tile.partial_row(row);
        if (column == 0) p.partial.states[to] = float2{maximum, sum};
        store_floats<4, float>(p.partial.outputs + (to * p.head_dim + column), output);
        continue;
      }
      const float factor = 1.0f / sum;
      UNROLL for (int j = 0; j < 4; ++j) output[j] *= factor;
      store_floats<4, Element>(p.out + (tile.offset_of(tile.item.first_row + row, p.out_stride) + column), output);
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
