// Global to shared memory by cp.async: every thread of the block copies its share of the stages ahead.
#pragma once
#include <cstdint>

#include "gemm/launch.h"
#include "gemm/layout.h"
#include "gemm/shape.h"
#include "gemm/work_units.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// Shared memory: the exchange, then the stages.
template <class Tile>
constexpr uint32_t stages_begin = exchange_bytes(Tile::threads);

// Where a thread's chunks of x come from: rows that are evenly apart. (Of experts: grouped_gemm.h.)
template <class Shape>
class EvenRows {
 public:
  // `rows` between a thread's chunks.
  DEVICE void begin(const GemmArguments& arguments, const TileCoord& place, int row, int byte) {
    const int token = place.token + row;
    valid_rows = place.tokens_end - token;
    first = arguments.x + (static_cast<uint64_t>(token) * arguments.x_pitch + static_cast<uint32_t>(byte));
  }
  DEVICE void advance() { first += Shape::row_bytes; }
  template <int rows>
  DEVICE Global<const uint8_t> chunk(const GemmArguments& arguments, int i) const {
    const uint64_t offset = i * rows * static_cast<uint64_t>(arguments.x_pitch);
    return first + static_cast<int64_t>(offset);
  }
  template <int rows>
  DEVICE bool exists(int i) const {
    return i * rows < valid_rows;
  }

 private:
  Global<const uint8_t> first;
  int valid_rows;  // left, from the thread's first one
};

// One thread's share of the copies: 16-byte chunks, Tile::threads apart. Source addresses are computed at the start of
// a tile and only advanced from unit to unit.
template <class Shape, class Arguments = GemmArguments, class Rows = EvenRows<Shape>>
class StagedLoader {
  using Tile = typename Shape::Tile;
  using Stage = SwizzledStage<Shape>;
  static constexpr int threads = Shape::threads, row_chunks = Shape::row_chunks;

  // Weights are copied in lines: the codes of a strip, or rows of elements. A thread has one or several chunks in a
  // line, then some in the next.
  static constexpr int line_bytes = Shape::quantized ? Shape::strip_bytes : Shape::row_bytes;  // in a stage
  static constexpr int line_chunks = line_bytes / 16;
  static constexpr int weight_chunks = Shape::weight_bytes / 16 / threads;  // of this thread
  static constexpr int chunks_a_line = max(line_chunks / threads, 1), lines = weight_chunks / chunks_a_line;
  static_assert(weight_chunks * threads * 16 == Shape::weight_bytes && lines * chunks_a_line == weight_chunks);

  static constexpr int x_chunks = ceil_div(Shape::x_bytes / 16, threads);
  static constexpr int chunk_rows = threads / row_chunks;           // rows of x between a thread's chunks
  static_assert(threads % row_chunks == 0 && chunk_rows % 8 == 0);  // so they share a swizzle

 public:
  // Units [begin, end).
  DEVICE StagedLoader(const Arguments& given, uint32_t begin, uint32_t end)
      : arguments(given),
        units(static_cast<int>(end - begin)),
        tile(static_cast<int>(begin) / given.k_tiles),
        k(static_cast<int>(begin) % given.k_tiles),
        thread(static_cast<int>(thread_index().x)),
        to(stages_begin<Tile> + static_cast<uint32_t>(thread) * 16),
        x_to(settled<Shape>(Stage::x_offset +
                            swizzled_byte<Shape::row_bytes>(thread / row_chunks, thread % row_chunks) -
                            static_cast<uint32_t>(thread) * 16)),
        policy(evict_first_policy()) {
    begin_tile();
  }

  // Prefetches the first stages' weights into L2, before data that other kernels write may be read.
  DEVICE void prefetch() const {
    if (thread % 8 != 0) return;  // an L2 line is eight chunks
    const int ahead = min(min(arguments.stages - 1, units), arguments.whole_k_tiles - k);
    for (int stage = 0; stage < ahead; ++stage) {
      UNROLL for (int i = 0; i < weight_chunks; ++i) {
        prefetch_l2(weights[i / chunks_a_line] + (stage * line_bytes + i % chunks_a_line * threads * 16));
      }
    }
  }

  // Starts the copies of the next unit, if any, as one group.
  DEVICE void next() {
    if (units > 0) {
      const Shared<uint8_t> stage = shared_memory<uint8_t>(to);
      if (k < arguments.whole_k_tiles) {
        load<false>(stage);
      } else {
        load<true>(stage);
      }
      if constexpr (Shape::quantized) load_groups(stage);
      advance();
    }
    cp_async_commit();
  }

 private:
  DEVICE void advance() {
    to += arguments.stage_bytes;
    if (to >= arguments.stages_end) to -= arguments.stages_end - stages_begin<Tile>;
    --units;
    if (++k < arguments.k_tiles) {
      UNROLL for (int i = 0; i < lines; ++i) weights[i] += line_bytes;
      x.advance();
    } else if (units > 0) {
      k = 0;
      ++tile;
      begin_tile();
    }
  }

  DEVICE void begin_tile() {
    const TileCoord place = tile_coord<Tile>(arguments, tile);
    const GemmTarget& target = arguments.targets[place.target];
    // A tile that overhangs the target's outputs rereads its last strip, or its last row.
    const int first_strip = (place.first_row + place.column) / strip_outputs;
    const int last_row = place.first_row + target.columns - 1, last_strip = last_row / strip_outputs;
    UNROLL for (int i = 0; i < lines; ++i) {
      const int chunk = thread + i * chunks_a_line * threads;
      const int line = Shape::quantized ? min(first_strip + chunk / line_chunks, last_strip)
                                        : min(place.first_row + place.column + chunk / line_chunks, last_row);
      weights[i] =
          target.weights + (static_cast<uint64_t>(line) * target.weight_pitch + static_cast<uint32_t>(k * line_bytes) +
                            static_cast<uint32_t>(chunk % line_chunks * 16));
    }
    x.begin(arguments, place, thread / row_chunks, k * Shape::row_bytes + thread % row_chunks * 16);
    if constexpr (Shape::quantized) {
      scales = entries_of(target.scales, arguments.scale_shift, first_strip, last_strip);
      if constexpr (Shape::zero_points) zeros = entries_of(target.zeros, zero_shift, first_strip, last_strip);
    }
  }

  // `ragged`: the inputs end within this unit. Beyond them x is zero, so any finite weights will do.
  template <bool ragged>
  DEVICE void load(Shared<uint8_t> stage) const {
    UNROLL for (int i = 0; i < weight_chunks; ++i) {
      const int within = i % chunks_a_line * threads * 16;  // offset from the thread's first chunk of the line
      int back = 0;
      if constexpr (ragged) {
        const int along = k * line_bytes + thread % line_chunks * 16 + within;
        const uint32_t pitch = arguments.targets[tile_coord<Tile>(arguments, tile).target].weight_pitch;
        back = max(along - static_cast<int>(pitch - 16), 0);
      }
      cp_async_16(weight_place(stage, i), weights[i / chunks_a_line] + (within - back), policy);
    }
    const bool inside = !ragged || k * Tile::inputs + thread % row_chunks * 8 < arguments.inputs;
    UNROLL for (int i = 0; i < x_chunks; ++i) {
      if (Shape::x_bytes / 16 % threads != 0 && thread >= Shape::x_bytes / 16 - i * threads) break;
      cp_async_or_zero<16>(stage + (x_to + i * threads * 16), x.template chunk<chunk_rows>(arguments, i),
                           inside && x.template exists<chunk_rows>(i));
    }
  }
  DEVICE Shared<uint8_t> weight_place(Shared<uint8_t> stage, int i) const {
    // Rows of elements have the same swizzle as rows of x.
    return stage + (Shape::quantized ? i * threads * 16 : static_cast<int>(x_to - Stage::x_offset) + i * threads * 16);
  }

  // Scales and zero points of the stage's groups, [group][strip][64]: at most one chunk per thread. In global memory,
  // [strip][group][64].
  static constexpr int zero_shift = 2;                                            // 64 zeros are 1 << 2 chunks
  DEVICE int slot(int shift) const { return (thread >> shift) / Shape::strips; }  // of the stage's groups
  // The thread's chunk of group 0.
  DEVICE Global<const uint8_t> entries_of(Global<const uint8_t> all, int shift, int first_strip, int last_strip) const {
    const int strip = min(first_strip + (thread >> shift) % Shape::strips, last_strip);
    const int chunk = (strip * arguments.groups << shift) + (thread & ((1 << shift) - 1));
    return all + static_cast<int64_t>(chunk) * 16;
  }
  DEVICE void load_groups(Shared<uint8_t> stage) const {
    static_assert(Shape::max_groups * Tile::outputs * Shape::max_scale_bytes <= 16 * threads);
    const int first = k * Shape::max_groups >> arguments.group_shift;
    load_entries(first, arguments.scale_shift, scales, stage + Stage::scale_offset);
    if constexpr (Shape::zero_points) {
      load_entries(first, zero_shift, zeros, stage + Stage::zero_offset(arguments.scale_bytes));
    }
  }
  DEVICE void load_entries(int first, int shift, Global<const uint8_t> from, Shared<uint8_t> to_chunk) const {
    if (slot(shift) >= arguments.stage_groups) return;
    const int group = min(first + slot(shift), arguments.groups - 1);
    cp_async<16>(to_chunk, from + (static_cast<int64_t>(group) << (shift + 4)));
  }

  const Arguments& arguments;
  int units, tile, k;  // units left; the next unit's tile and k
  int thread;
  uint32_t to, x_to;  // shared memory: the thread's first chunk of the stage, and of x relative to it
  CachePolicy policy;
  Global<const uint8_t> weights[lines], scales, zeros;  // the thread's chunks; for scales and zeros, those of group 0
  Rows x;
};

}  // namespace billfish::BILLFISH_TARGET
