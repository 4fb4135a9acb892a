// Splits a batch's attention into work items for thread blocks: a pure function of the batch's spans and a layer's
// shape, computed on the host once per step for all layers of that shape.
//
// Query heads that share a kv head are computed together because they read the same keys: query q of a span and head i
// of its group are "packed row" q * group + i. A tile is a run of packed rows of one span:
//
//   decode tile    16 packed rows, the whole span; the block's warps share the keys. Spans with rows * group <= 16.
//   prefill tile   64 packed rows, 16 per warp; the warps share tiles of keys. All other spans.
//
// In steps with few tiles, tiles with many keys are split along the keys over several blocks (split-KV, as in flash
// decoding). Each leaves a partial result (maximum, sum and output, in fp32), and a second kernel merges them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/batch.h"

namespace billfish::gpu {

// What may differ between layers.
struct AttentionShape {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t window = 0;          // row at position i sees keys j with i - window < j <= i; 0: all j <= i
  bool bidirectional = false;  // row sees all keys of its sequence

  int32_t group() const { return heads / kv_heads; }
  bool operator==(const AttentionShape&) const = default;
};

constexpr int32_t decode_tile_rows = 16, prefill_tile_rows = 64;

// The work of a block, for each kv head.
struct alignas(32) AttentionItem {
  int32_t sequence;
  int32_t first_row;           // first packed row of the tile
  int32_t key_begin, key_end;  // positions of the keys to read; starts at a multiple of 16 except at the window's edge
  int32_t partial;             // index of the partial result, in units of 16 packed rows; -1: the keys are not split
};

// 16 packed rows whose partial results are to be merged, for each kv head.
struct alignas(32) AttentionMerge {
  int32_t sequence;
  int32_t first_row, rows;
  int32_t first_partial, partial_step, splits;  // partials first, first + step, ...
};

struct AttentionPlan {
  std::vector<AttentionItem> decode, prefill;
  std::vector<AttentionMerge> merges;
};
AttentionPlan plan_attention(const Batch& batch, const AttentionShape& shape);

// Upper bounds of a plan, for any batch.
struct AttentionCapacity {
  int64_t decode_items, prefill_items, merges, partials;
};
AttentionCapacity attention_capacity(const AttentionShape& shape, int32_t max_rows, int32_t max_sequences);

// Bytes of scratch that attention() needs for partial results; independent of batch and context.
size_t attention_scratch_bytes(const AttentionShape& shape);

}  // namespace billfish::gpu
