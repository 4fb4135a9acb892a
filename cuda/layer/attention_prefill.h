// Attention for spans of more than 16 packed rows, in tiles of 64: each of four warps owns 16 rows, and all share
// double-buffered tiles of 64 keys (16 for heads wider than 128, where registers hold no more scores).
//
// A tile of keys costs 4 * 64 * 64 * head_dim operations for 256 * head_dim bytes: 64 operations per byte of L2
// traffic. On an H200 (m16n8k16 at about 600 TFLOP/s) tensor cores rather than L2 are the limit as soon as a prompt has
// a few hundred tokens. q, k, v and out each cross memory once.
#pragma once
#include "layer/attention_tile.h"
#include "layer/vector.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

template <class Element, int columns>
struct PrefillAttention {
  static constexpr int max_threads = attention_threads;
  static constexpr int min_blocks = columns <= 128 ? 2 : 1;
  static constexpr int stages = 2, tile_keys = columns <= 128 ? 64 : 16;
  using Rows = SharedRows<Element, columns>;

  // Shared memory: queries, later the output | stages of keys and values.
  static constexpr uint32_t stages_at = Rows::bytes(prefill_tile_rows);
  static constexpr uint32_t half_stage_bytes = Rows::bytes(tile_keys);
  static constexpr uint32_t shared_bytes = stages_at + stages * 2 * half_stage_bytes;
  static_assert(shared_bytes <= 99 * 1024, "what a block may have on every architecture from sm_80 on");

  AttentionParameters<Element> p;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const DeviceAttentionPlan::Counts counts = *p.counts;
    const auto number = static_cast<int32_t>(block_index().x);
    if (number >= counts.prefill) return;
    const AttentionItem item = p.items[number];
    const DeviceSpan span = p.spans[item.sequence];
    attend({p, item, span, static_cast<int32_t>(block_index().y)});
  }

 private:
  using State = RowState<Element, columns, tile_keys>;

  DEVICE void attend(const QueryTile<Element>& tile) const {
    const int thread = static_cast<int>(thread_index().x), first_row = static_cast<int>(warp_index()) * warp_rows;
    const Rows queries{shared_memory<Element>()};
    const int32_t first_key = tile.item.key_begin / 16 * 16;
    const int32_t tiles = ceil_div(tile.item.key_end - first_key, tile_keys);

    const auto stage_rows = [&](int32_t number, int which) {
      const auto part = static_cast<uint32_t>(number % stages * 2 + which);
      return Rows{shared_memory<Element>(stages_at + part * half_stage_bytes)};
    };
    const auto copy_tile = [&](int32_t number) {
      if (number < tiles) {
        for (int row = 0; row < tile_keys; row += 16) {
          copy_16_positions<attention_threads>(tile, first_key + number * tile_keys + row, stage_rows(number, 0),
                                               stage_rows(number, 1), row, thread);
        }
      }
      cp_async_commit();
    };

    copy_queries<prefill_tile_rows, attention_threads>(tile, queries, thread);
    cp_async_commit();
    copy_tile(0);
    cp_async_wait<1>();
    sync_threads();
    State state;
    state.begin(tile, queries, first_row);
    // The positions of this warp's first and last query, and the keys that all its queries see.
    const int32_t warp_first = tile.item.first_row + first_row;
    const int32_t warp_last = min(tile.packed_rows(), warp_first + warp_rows) - 1;
    const bool has_rows = warp_first <= warp_last;
    const int32_t lowest = tile.position_of(warp_first), highest = tile.position_of(warp_last);
    const int32_t no_mask_to = min(tile.item.key_end, lowest + 1);
    const int32_t no_mask_from = max(tile.item.key_begin, p.window > 0 ? highest - p.window + 1 : 0);
    for (int32_t number = 0; number < tiles; ++number) {
      copy_tile(number + 1);
      cp_async_wait<1>();
      sync_threads();
      const int32_t first = first_key + number * tile_keys;
      const bool seen = has_rows && first <= highest && (p.window == 0 || first + tile_keys > lowest - p.window + 1);
      if (seen) {
        const bool masked = first < no_mask_from || first + tile_keys > no_mask_to;
        state.visit(tile, queries, first_row, stage_rows(number, 0), stage_rows(number, 1), first, masked);
      }
      sync_threads();  // all warps have read the stage
    }
    cp_async_wait<0>();
    state.finish();
    if (!has_rows) return;
    if (tile.item.partial >= 0) {
      write_partial(tile, state, first_row);
    } else {
      write_output(tile, state, queries, first_row);
    }
  }

  DEVICE void write_partial(const QueryTile<Element>& tile, const State& state, int first_row) const {
    const int lane = static_cast<int>(lane_index());
    UNROLL for (int half = 0; half < 2; ++half) {
      const int row = first_row + lane / 4 + 8 * half;
      if (tile.item.first_row + row >= tile.packed_rows()) continue;
      const int64_t to = tile.partial_row(row);
      if (lane % 4 == 0) p.partial.states[to] = float2{state.maximum[half], state.sum[half]};
      UNROLL for (int block = 0; block < columns / 8; ++block) {
        const int column = block * 8 + lane % 4 * 2;
        if (column >= p.head_dim) continue;
        store_as<float2>(p.partial.outputs + (to * p.head_dim + column),
                         float2{state.output[block][2 * half], state.output[block][2 * half + 1]});
      }
    }
  }

  // Goes through shared memory, where the 16 rows are private to this warp, so that whole rows are written.
  DEVICE void write_output(const QueryTile<Element>& tile, const State& state, Rows shared, int first_row) const {
    const int lane = static_cast<int>(lane_index());
    sync_warp();
    UNROLL for (int half = 0; half < 2; ++half) {
      const float factor = 1.0f / state.sum[half];  // existing rows see at least their own key
      UNROLL for (int block = 0; block < columns / 8; ++block) {
        const auto pair = pair_from_floats<Element>(state.output[block][2 * half] * factor,
                                                    state.output[block][2 * half + 1] * factor);
        store_as<uint32_t>(shared.at(first_row + lane / 4 + 8 * half, block * 8 + lane % 4 * 2),
                           bit_cast<uint32_t>(pair));
      }
    }
    sync_warp();
    for (int i = lane; i < warp_rows * Rows::chunks; i += 32) {
      const int row = first_row + i / Rows::chunks, column = i % Rows::chunks * 8;
      const int32_t packed_row = tile.item.first_row + row;
      if (packed_row >= tile.packed_rows() || column >= p.head_dim) continue;
      store_whole(p.out + (tile.offset_of(packed_row, p.out_stride) + column), load_as<uint4>(shared.at(row, column)));
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
