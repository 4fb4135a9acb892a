// What the attention kernels share: their parameters, tiles of keys in shared memory, and the two matrix products of a
// warp's 16 packed rows with them, as in FlashAttention-2:
//
//   S = Q K^T * scale;  running maximum and sum of exp2(S) per row;  O = O * correction + P V
//
// S's accumulators have the layout of the second product's A operand, so P never leaves registers.
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "layer/shared_rows.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/mma.h"
#include "primitives/warp.h"

namespace billfish::BILLFISH_TARGET {

constexpr int attention_threads = 128, attention_warps = 4;
constexpr int warp_rows = 16;
constexpr float no_score = -infinity;

// The partial results of split tiles: unit u of 16 packed rows of kv head h begins at row (u * kv_heads + h) * 16.
struct PartialRows {
  Global<float2> states;  // maximum (of base-2 scores) and sum
  Global<float> outputs;  // [head_dim], not yet divided by the sum
};

template <class Element>
struct AttentionParameters {
  Global<const DeviceAttentionPlan::Counts> counts;
  Global<const AttentionItem> items;
  Global<const DeviceSpan> spans;
  Global<const int32_t> block_tables;
  Global<const Element> q, keys, values;
  Global<Element> out;
  int64_t q_stride, out_stride;
  PartialRows partial;
  int32_t block_size, kv_heads, group, head_dim, window;
  bool bidirectional;
  float scale_log2;  // scale * log2(e): scores are exponents of 2
};

// One tile of packed rows, for one kv head.
template <class Element>
struct QueryTile {
  const AttentionParameters<Element>& p;
  AttentionItem item;
  DeviceSpan span;
  int32_t kv_head;

  DEVICE int32_t packed_rows() const { return span.rows * p.group; }
  // The last position that a packed row sees: its own, or its sequence's last one.
  DEVICE int32_t position_of(int32_t packed_row) const {
    return span.past + (p.bidirectional ? span.rows - 1 : packed_row / p.group);
  }
  // Offset of a packed row in q (or out), in elements.
  DEVICE int64_t offset_of(int32_t packed_row, int64_t stride) const {
    const int32_t query = packed_row / p.group, head = kv_head * p.group + packed_row % p.group;
    return (span.first_row + query) * stride + static_cast<int64_t>(head) * p.head_dim;
  }
  // Offset of a position's row in the cache, in elements. Aligned groups of 16 positions are contiguous.
  DEVICE int64_t cache_offset(int32_t position) const {
    const auto block_size = static_cast<uint32_t>(p.block_size), at = static_cast<uint32_t>(position);
    const int64_t block = load_readonly<int32_t>(p.block_tables + (span.first_block + at / block_size));
    return ((block * p.kv_heads + kv_head) * block_size + at % block_size) * p.head_dim;
  }
  // The index of row r's partial result among all partial rows.
  DEVICE int64_t partial_row(int32_t row) const {
    return (static_cast<int64_t>(item.partial + row / warp_rows) * p.kv_heads + kv_head) * warp_rows + row % warp_rows;
  }
};

// Queries of the tile's rows [0, rows), copied by `threads` threads; zeros where there are none.
template <int rows, int threads, int columns, class Element>
DEVICE void copy_queries(const QueryTile<Element>& tile, SharedRows<Element, columns> to, int thread) {
  constexpr int chunks = SharedRows<Element, columns>::chunks;
  UNROLL for (int begin = 0; begin < rows * chunks; begin += threads) {
    const int i = begin + thread;
    if (rows * chunks % threads != 0 && i >= rows * chunks) break;
    const int row = i / chunks, column = i % chunks * 8;
    const int32_t packed_row = tile.item.first_row + row;
    const bool valid = packed_row < tile.packed_rows() && column < tile.p.head_dim;
    const int64_t offset = valid ? tile.offset_of(packed_row, tile.p.q_stride) + column : 0;
    cp_async_or_zero<16>(to.at(row, column), tile.p.q + offset, valid);
  }
}

// Keys and values of 16 positions from `first` (a multiple of 16) on, copied by `threads` threads; zeros for positions
// outside of the item's.
template <int threads, int columns, class Element>
DEVICE void copy_16_positions(const QueryTile<Element>& tile, int32_t first, SharedRows<Element, columns> keys,
                              SharedRows<Element, columns> values, int first_row, int thread) {
  constexpr int chunks = SharedRows<Element, columns>::chunks;
  const int64_t offset = first < tile.item.key_end ? tile.cache_offset(first) : 0;
  UNROLL for (int begin = 0; begin < 16 * chunks; begin += threads) {
    const int i = begin + thread;
    if (16 * chunks % threads != 0 && i >= 16 * chunks) break;
    const int row = i / chunks, column = i % chunks * 8;
    const int32_t position = first + row;
    const bool valid = position >= tile.item.key_begin && position < tile.item.key_end && column < tile.p.head_dim;
    const int64_t from = valid ? offset + int64_t{row} * tile.p.head_dim + column : 0;
    cp_async_or_zero<16>(keys.at(first_row + row, column), tile.p.keys + from, valid);
    cp_async_or_zero<16>(values.at(first_row + row, column), tile.p.values + from, valid);
  }
}

// The A operand of 16 rows: columns [16 k, 16 k + 16).
template <int columns, class Element>
DEVICE void load_queries(SharedRows<Element, columns> from, int first_row, int k, uint32_t (&a)[4]) {
  const int lane = static_cast<int>(lane_index());
  ldmatrix<4>(a, from.at(first_row + lane % 16, k * 16 + lane / 16 * 8));
}

// The state of a warp's 16 packed rows during the pass over the keys. This lane holds rows lane / 4 and lane / 4 + 8
// (`half` 0 and 1 below), and of every eight columns 2 (lane % 4) and the next one.
template <class Element, int columns, int tile_keys>
struct RowState {
  static constexpr int key_blocks = tile_keys / 8, column_blocks = columns / 8;
  // Beyond 128 columns the registers do not hold the queries as well: they are read again for every tile of keys.
  static constexpr bool holds_queries = columns <= 128;

  uint32_t queries[holds_queries ? columns / 16 : 1][4];
  float output[column_blocks][4];
  float maximum[2], sum[2];  // sum: over this lane's columns only, until finish()
  int32_t position[2];       // of the rows' queries

  DEVICE void begin(const QueryTile<Element>& tile, SharedRows<Element, columns> shared_queries, int first_row) {
    if constexpr (holds_queries) {
      UNROLL for (int k = 0; k < columns / 16; ++k) load_queries(shared_queries, first_row, k, queries[k]);
    }
    UNROLL for (int block = 0; block < column_blocks; ++block) {
      UNROLL for (int i = 0; i < 4; ++i) output[block][i] = 0;
    }
    UNROLL for (int half = 0; half < 2; ++half) {
      maximum[half] = no_score;
      sum[half] = 0;
      position[half] =
          tile.position_of(tile.item.first_row + first_row + static_cast<int>(lane_index()) / 4 + 8 * half);
    }
  }

  // Processes the keys at positions [first, first + tile_keys), in shared memory from row `key_row` on. `masked`: some
  // rows do not see some of them.
  DEVICE void visit(const QueryTile<Element>& tile, SharedRows<Element, columns> shared_queries, int first_row,
                    SharedRows<Element, columns> keys, SharedRows<Element, columns> values, int32_t first,
                    bool masked) {
    float scores[key_blocks][4];
    multiply_keys(shared_queries, first_row, keys, scores);
    if (masked) mask(tile, first, scores);
    rescale(tile.p.scale_log2, scores);
    multiply_values(values, scores);
  }

  // Completes the sums.
  DEVICE void finish() {
    UNROLL for (int half = 0; half < 2; ++half) {
      sum[half] += shuffle_xor(sum[half], 1);
      sum[half] += shuffle_xor(sum[half], 2);
    }
  }

 private:
  DEVICE void multiply_keys(SharedRows<Element, columns> shared_queries, int first_row,
                            SharedRows<Element, columns> keys, float (&scores)[key_blocks][4]) const {
    const int lane = static_cast<int>(lane_index());
    UNROLL for (int block = 0; block < key_blocks; ++block) { UNROLL for (int i = 0; i < 4; ++i) scores[block][i] = 0; }
    UNROLL for (int k = 0; k < columns / 16; ++k) {
      uint32_t a[4];
      if constexpr (holds_queries) {
        UNROLL for (int i = 0; i < 4; ++i) a[i] = queries[k][i];
      } else {
        load_queries(shared_queries, first_row, k, a);
      }
      // Matrices of 8 keys x 8 columns: keys 0-7 left and right half, then keys 8-15.
      UNROLL for (int pair = 0; pair < key_blocks / 2; ++pair) {
        uint32_t b[4];
        ldmatrix<4>(b, keys.at(pair * 16 + lane / 16 * 8 + lane % 8, k * 16 + lane / 8 % 2 * 8));
        mma_m16n8k16<Element>(scores[2 * pair], a, {b[0], b[1]});
        mma_m16n8k16<Element>(scores[2 * pair + 1], a, {b[2], b[3]});
      }
    }
  }

  DEVICE void mask(const QueryTile<Element>& tile, int32_t first, float (&scores)[key_blocks][4]) const {
    const int32_t column = first + static_cast<int32_t>(lane_index()) % 4 * 2;
    UNROLL for (int block = 0; block < key_blocks; ++block) {
      UNROLL for (int i = 0; i < 4; ++i) {
        const int32_t key = column + block * 8 + i % 2, query = position[i / 2];
        const bool seen = key <= query && key < tile.item.key_end && key >= tile.item.key_begin &&
                          (tile.p.window == 0 || key > query - tile.p.window);
        if (!seen) scores[block][i] = no_score;
      }
    }
  }

  // Turns scores into weights relative to the new maximum, and rescales the sums so far.
  DEVICE void rescale(float scale_log2, float (&scores)[key_blocks][4]) {
    float correction[2];
    UNROLL for (int half = 0; half < 2; ++half) {
      float highest = no_score;
      UNROLL for (int block = 0; block < key_blocks; ++block) {
        UNROLL for (int i = 0; i < 2; ++i) highest = max(highest, scores[block][2 * half + i]);
      }
      highest = max(highest, shuffle_xor(highest, 1));
      highest = max(highest, shuffle_xor(highest, 2));
      const float new_maximum = max(maximum[half], highest * scale_log2);
      const float base = new_maximum == no_score ? 0.0f : new_maximum;  // no key seen yet: all weights are zero
      correction[half] = exp2_approx(maximum[half] - base);
      maximum[half] = new_maximum;
      float added = 0;
      UNROLL for (int block = 0; block < key_blocks; ++block) {
        UNROLL for (int i = 0; i < 2; ++i) {
          float& score = scores[block][2 * half + i];
          score = exp2_approx(fused_multiply_add(score, scale_log2, -base));
          added += score;
        }
      }
      sum[half] = sum[half] * correction[half] + added;
    }
    UNROLL for (int block = 0; block < column_blocks; ++block) {
      UNROLL for (int i = 0; i < 4; ++i) output[block][i] *= correction[i / 2];
    }
  }

  DEVICE void multiply_values(SharedRows<Element, columns> values, const float (&weights)[key_blocks][4]) {
    const int lane = static_cast<int>(lane_index());
    UNROLL for (int k = 0; k < tile_keys / 16; ++k) {
      const float(&left)[4] = weights[2 * k], (&right)[4] = weights[2 * k + 1];
      const uint32_t a[4] = {bit_cast<uint32_t>(pair_from_floats<Element>(left[0], left[1])),
                             bit_cast<uint32_t>(pair_from_floats<Element>(left[2], left[3])),
                             bit_cast<uint32_t>(pair_from_floats<Element>(right[0], right[1])),
                             bit_cast<uint32_t>(pair_from_floats<Element>(right[2], right[3]))};
      // Matrices of 8 keys x 8 columns: the left columns' keys 0-7 and 8-15, then the right columns'.
      UNROLL for (int pair = 0; pair < column_blocks / 2; ++pair) {
        uint32_t b[4];
        ldmatrix<4, true>(b, values.at(k * 16 + lane % 16, pair * 16 + lane / 16 * 8));
        mma_m16n8k16<Element>(output[2 * pair], a, {b[0], b[1]});
        mma_m16n8k16<Element>(output[2 * pair + 1], a, {b[2], b[3]});
      }
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
