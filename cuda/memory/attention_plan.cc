#include "cuda/memory/attention_plan.h"

#include <algorithm>
#include <cstdint>

namespace billfish::gpu {
namespace {

constexpr int32_t round_up(int32_t value, int32_t multiple) { return (value + multiple - 1) / multiple * multiple; }
constexpr int32_t ceil_of(int64_t value, int64_t divisor) {
  return static_cast<int32_t>((value + divisor - 1) / divisor);
}

// Keys are split at multiples of this.
constexpr int32_t key_step = 64;

// How tiles of one kind are split: into enough blocks to fill a large GPU (132 multiprocessors) a few times over; on
// smaller ones they queue. Independent of the device, so that memory can be planned without one. A part must be worth
// its partial result: a decode tile's is as large as 16 keys and values in fp32, so parts of 128 keys cost at most an
// eighth more traffic.
struct SplitPolicy {
  int32_t wanted_blocks;
  int32_t min_keys;  // per part; a multiple of key_step
  int32_t tile_rows;

  // Blocks wanted per kv head; a tile never has more than 128 parts, the limit of the merge kernel.
  int32_t wanted_items(const AttentionShape& shape) const {
    return std::clamp(wanted_blocks / shape.kv_heads, 1, max_splits - 1);
  }
  // Tiles that are split have k > keys_per_part keys, in ceil(k / keys_per_part) < 2 k / keys_per_part parts; and all
  // keys together are at most wanted_items * keys_per_part.
  int32_t max_partials(const AttentionShape& shape) const {
    return 2 * wanted_items(shape) * (tile_rows / decode_tile_rows);
  }
  static constexpr int32_t max_splits = 128;
};
constexpr SplitPolicy decode_policy{4 * 132, 128, decode_tile_rows};
constexpr SplitPolicy prefill_policy{2 * 132, 512, prefill_tile_rows};

struct Tile {
  int32_t sequence, first_row, rows;
  int32_t key_begin, key_end;

  int32_t aligned_begin() const { return key_begin / key_step * key_step; }
  int32_t keys() const { return key_end - aligned_begin(); }
};

// The tile of packed rows [first_row, first_row + rows) with the keys that any of them sees.
Tile make_tile(const SequenceSpan& span, int32_t sequence, const AttentionShape& shape, int32_t first_row,
               int32_t rows) {
  const int32_t first_query = first_row / shape.group(), last_query = (first_row + rows - 1) / shape.group();
  const int32_t last_key = shape.bidirectional ? span.rows - 1 : last_query;
  Tile tile{sequence, first_row, rows, 0, span.past + last_key + 1};
  if (shape.window > 0) tile.key_begin = std::max(0, span.past + first_query - shape.window + 1);
  return tile;
}

// Turns tiles into items, longest first, so that the last ones to start are short.
void make_items(std::vector<Tile>& tiles, const SplitPolicy& policy, const AttentionShape& shape, int32_t& partials,
                std::vector<AttentionItem>& items, std::vector<AttentionMerge>& merges) {
  std::stable_sort(tiles.begin(), tiles.end(), [](const Tile& a, const Tile& b) { return a.keys() > b.keys(); });
  int64_t all_keys = 0;
  for (const Tile& tile : tiles) all_keys += tile.keys();
  const int32_t keys_per_part =
      std::max(policy.min_keys, round_up(ceil_of(all_keys, policy.wanted_items(shape)), key_step));
  const int32_t units = policy.tile_rows / decode_tile_rows;
  for (const Tile& tile : tiles) {
    const int32_t splits = ceil_of(tile.keys(), keys_per_part);
    if (splits <= 1) {
      items.push_back({tile.sequence, tile.first_row, tile.key_begin, tile.key_end, -1});
      continue;
    }
    const int32_t part = round_up(ceil_of(tile.keys(), splits), key_step);
    const int32_t first_partial = partials;
    int32_t made = 0;
    for (int32_t begin = tile.aligned_begin(); begin < tile.key_end; begin += part, ++made) {
      items.push_back({tile.sequence, tile.first_row, std::max(begin, tile.key_begin),
                       std::min(begin + part, tile.key_end), partials});
      partials += units;
    }
    for (int32_t row = 0; row < tile.rows; row += decode_tile_rows) {
      merges.push_back({tile.sequence, tile.first_row + row, std::min(decode_tile_rows, tile.rows - row),
                        first_partial + row / decode_tile_rows, units, made});
    }
  }
}

}  // namespace

AttentionPlan plan_attention(const Batch& batch, const AttentionShape& shape) {
  std::vector<Tile> decode, prefill;
  for (size_t i = 0; i < batch.sequences.size(); ++i) {
    const SequenceSpan& span = batch.sequences[i];
    const int32_t sequence = static_cast<int32_t>(i), packed_rows = span.rows * shape.group();
    if (packed_rows == 0) continue;
    if (packed_rows <= decode_tile_rows) {
      decode.push_back(make_tile(span, sequence, shape, 0, packed_rows));
      continue;
    }
    for (int32_t row = 0; row < packed_rows; row += prefill_tile_rows) {
      prefill.push_back(make_tile(span, sequence, shape, row, std::min(prefill_tile_rows, packed_rows - row)));
    }
  }
  AttentionPlan plan;
  int32_t partials = 0;
  make_items(decode, decode_policy, shape, partials, plan.decode, plan.merges);
  make_items(prefill, prefill_policy, shape, partials, plan.prefill, plan.merges);
  return plan;
}

AttentionCapacity attention_capacity(const AttentionShape& shape, int32_t max_rows, int32_t max_sequences) {
  const int32_t decode_partials = decode_policy.max_partials(shape);
  const int32_t prefill_partials = prefill_policy.max_partials(shape);
  const int32_t prefill_units = prefill_tile_rows / decode_tile_rows;
  AttentionCapacity most;
  most.decode_items = int64_t{max_sequences} + decode_partials;
  most.prefill_items = (int64_t{max_rows} * shape.group() + prefill_tile_rows - 1) / prefill_tile_rows + max_sequences +
                       prefill_partials / prefill_units;
  most.merges = (decode_partials + prefill_partials) / 2;  // a split has at least two parts
  most.partials = decode_partials + prefill_partials;
  return most;
}

size_t attention_scratch_bytes(const AttentionShape& shape) {
  const size_t rows = static_cast<size_t>(attention_capacity(shape, 0, 0).partials) * shape.kv_heads * decode_tile_rows;
  return rows * (static_cast<size_t>(shape.head_dim) + 2) * sizeof(float);
}

}  // namespace billfish::gpu
