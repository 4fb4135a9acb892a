// Tiles and units of the GEMM, and their way from global to shared memory.
#pragma once
#include <cstdint>

#include "marlin/gemm_arguments.h"
#include "marlin/gemm_shape.h"
#include "marlin/layout.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// Where a tile lies: its first token, its target, and its first output within that.
struct TilePlace {
  int token, target, column;
};
template <class Tile>
DEVICE TilePlace place_of(const GemmArguments& arguments, int tile) {
  const int column = tile / arguments.token_tiles;
  TilePlace place = {(tile - column * arguments.token_tiles) * Tile::tokens, 0, 0};
  for (int i = 1; i < arguments.count; ++i) {
    if (column >= arguments.targets[i].first_column) place.target = i;
  }
  place.column = (column - arguments.targets[place.target].first_column) * Tile::outputs;
  return place;
}

// Stages of shared memory, one after the other and round again.
template <class Tile>
struct StageRing {
  static constexpr uint32_t begin = exchange_bytes(Tile::threads);
  DEVICE static uint32_t after(const GemmArguments& arguments, uint32_t stage) {
    const uint32_t next = stage + arguments.stage_bytes;
    return next == arguments.stages_end ? begin : next;
  }
};

// One thread's part of the copies: 16-byte chunks, Tile::threads apart. What does not change within a tile is worked
// out where the tile begins.
template <class Shape>
class GemmLoader {
  using Tile = typename Shape::Tile;
  static constexpr int threads = Shape::threads, row_chunks = Shape::row_chunks;
  static constexpr int weight_chunks = ceil_div(Shape::weight_bytes / 16, threads);  // of this thread
  static constexpr int x_chunks = ceil_div(Shape::x_bytes / 16, threads);
  static_assert(threads % row_chunks == 0 && threads / row_chunks % 8 == 0);  // a thread's chunks are in one column

 public:
  // Units [begin, end).
  DEVICE GemmLoader(const GemmArguments& given, uint32_t begin, uint32_t end)
      : arguments(given),
        units(static_cast<int>(end - begin)),
        tile(static_cast<int>(begin) / given.k_tiles),
        k(static_cast<int>(begin) % given.k_tiles),
        stage(StageRing<Tile>::begin),
        thread(static_cast<int>(thread_index().x)),
        policy(evict_first_policy()) {
    begin_tile();
  }

  // Starts the copies of the next unit, if there is one, as a group.
  DEVICE void next() {
    if (units > 0) {
      const Shared<uint8_t> to = shared_memory<uint8_t>(stage);
      load_weights(to);
      load_x(to + Shape::x_place);
      if constexpr (Shape::quantised) load_groups(to);
      stage = StageRing<Tile>::after(arguments, stage);
      --units;
      if (++k == arguments.k_tiles && units > 0) {
        k = 0;
        ++tile;
        begin_tile();
      }
    }
    cp_async_commit();
  }

 private:
  DEVICE void begin_tile() {
    const TilePlace place = place_of<Tile>(arguments, tile);
    const GemmTarget& target = arguments.targets[place.target];
    weights = target.weights;
    weight_pitch = target.weight_pitch;
    // A tile that sticks out beyond the target's outputs reads its last strip once more, or its last row.
    const int first_strip = place.column / strip_outputs, last_strip = (target.columns - 1) / strip_outputs;
    UNROLL for (int i = 0; i < weight_chunks; ++i) {
      const int chunk = thread + i * threads;
      const int line = Shape::quantised ? min(first_strip + chunk / (Shape::strip_bytes / 16), last_strip)
                                        : min(place.column + chunk / row_chunks, target.columns - 1);
      weight_offset[i] = static_cast<uint32_t>(line) * weight_pitch;
    }
    const int token = place.token + thread / row_chunks;
    x_offset = static_cast<uint32_t>(token) * arguments.x_pitch;
    valid_rows = arguments.rows - token;
    if constexpr (Shape::quantised) {
      scales = target.scales;
      zeros = target.zeros;
      const auto groups = static_cast<uint32_t>(arguments.groups);
      const int scale_strip = thread >> arguments.scale_shift, zero_strip = thread >> zero_shift;
      scale_entry = static_cast<uint32_t>(min(first_strip + scale_strip % Shape::strips, last_strip)) * groups;
      zero_entry = static_cast<uint32_t>(min(first_strip + zero_strip % Shape::strips, last_strip)) * groups;
    }
  }

  DEVICE void load_weights(Shared<uint8_t> to) const {
    constexpr int line_chunks = Shape::quantised ? Shape::strip_bytes / 16 : row_chunks;
    constexpr int line_step = Shape::quantised ? Shape::strip_bytes : Shape::row_bytes;
    const uint32_t at = Shape::quantised ? static_cast<uint32_t>(thread) * 16
                                         : swizzled_byte<Shape::row_bytes>(thread / row_chunks, thread % row_chunks);
    const int along = k * line_step + thread % line_chunks * 16;
    UNROLL for (int i = 0; i < weight_chunks; ++i) {
      if (Shape::weight_bytes / 16 % threads != 0 && thread >= Shape::weight_bytes / 16 - i * threads) break;
      // Beyond the last input any weights will do, for x is zero there.
      const auto inside = min(static_cast<uint32_t>(along + i * threads % line_chunks * 16), weight_pitch - 16);
      cp_async_16(to + (at + i * threads * 16), weights + (weight_offset[i] + inside), policy);
    }
  }

  DEVICE void load_x(Shared<uint8_t> to) const {
    const uint32_t at = swizzled_byte<Shape::row_bytes>(thread / row_chunks, thread % row_chunks);
    const int along = k * Shape::row_bytes + thread % row_chunks * 16;
    const bool inside = along < arguments.inputs * 2;
    UNROLL for (int i = 0; i < x_chunks; ++i) {
      if (Shape::x_bytes / 16 % threads != 0 && thread >= Shape::x_bytes / 16 - i * threads) break;
      constexpr int rows = threads / row_chunks;  // to the thread's next chunk
      const uint32_t from = x_offset + i * rows * arguments.x_pitch + static_cast<uint32_t>(along);
      cp_async_or_zero<16>(to + (at + i * threads * 16), arguments.x + from, inside && i * rows < valid_rows);
    }
  }

  // The scales and zero points of the groups that the stage meets, [group][strip][64]: at most one chunk a thread.
  static constexpr int zero_shift = 2;  // 64 zeros are 1 << 2 chunks
  DEVICE void load_groups(Shared<uint8_t> to) const {
    static_assert(Shape::most_groups * Tile::outputs * 4 <= 16 * threads);
    load_entries(arguments.scale_shift, scales, scale_entry, to + Shape::scale_place);
    if constexpr (Shape::zero_points) {
      load_entries(zero_shift, zeros, zero_entry, to + Shape::zero_place(arguments.scale_bytes));
    }
  }
  DEVICE void load_entries(int shift, Global<const uint8_t> from, uint32_t first_entry, Shared<uint8_t> to) const {
    const int slot = (thread >> shift) / Shape::strips;
    if (slot >= arguments.stage_groups) return;
    const int group = min((k * Shape::most_groups >> arguments.group_shift) + slot, arguments.groups - 1);
    const uint32_t chunk = ((first_entry + static_cast<uint32_t>(group)) << shift) + (thread & ((1 << shift) - 1));
    cp_async<16>(to + thread * 16, from + chunk * 16);
  }

  const GemmArguments& arguments;
  int units, tile, k;  // units left; the next one's tile, and its place along k
  uint32_t stage;      // where it goes in shared memory
  int thread;
  CachePolicy policy;
  Global<const uint8_t> weights, scales, zeros;
  uint32_t weight_pitch, weight_offset[weight_chunks], x_offset;  // bytes
  int valid_rows;                                                 // from the thread's first row on
  uint32_t scale_entry, zero_entry;
};

}  // namespace billfish::BILLFISH_TARGET
