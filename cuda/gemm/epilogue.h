// The epilogue of a tile, or of a block's share of one: sums over the warps along k, the stream-K fix-up, bias, stores.
//
// Blocks that share a tile write partial sums to the workspace. The last one to arrive adds them in the order of k, so
// that the result does not depend on the order of arrival, and resets the tile's counter. No block waits for another.
#pragma once
#include <cstdint>

#include "gemm/dequantize.h"
#include "gemm/launch.h"
#include "gemm/multiply.h"
#include "gemm/shape.h"
#include "gemm/tiles.h"
#include "gemm/work_units.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// Barriers over the threads that multiply: the whole block, or its consumer warps if it has a producer warp.
struct AllWarps {
  DEVICE static void sync() { sync_threads(); }
};
template <int threads>
struct ConsumerWarps {
  DEVICE static void sync() { sync_barrier(1, threads); }
};

template <class Shape, class Consumers, class Arguments = GemmArguments>
struct GemmEpilogue {
  using Element = typename Shape::Element;
  using Tile = typename Shape::Tile;
  using Totals = Accumulators<Shape>;
  static constexpr int bits = Shape::bits, token_blocks = Shape::token_blocks;

  const Arguments& arguments;

  // `totals` holds units [first_k, end_k) of the tile. Stores the tile, or a partial sum if other blocks share it.
  DEVICE void store_tile(int tile, int first_k, int end_k, Totals& totals) const {
    const TileCoord place = tile_coord<Tile>(arguments, tile);
    const bool alone = !Arguments::shares_tiles || (first_k == 0 && end_k == arguments.k_tiles);
    uint32_t first = block_index().x, last = first;
    if (!alone) {
      const uint32_t begin = static_cast<uint32_t>(tile) * static_cast<uint32_t>(arguments.k_tiles);
      first = block_of_unit(arguments, begin);
      last = block_of_unit(arguments, begin + static_cast<uint32_t>(arguments.k_tiles) - 1);
    }
    UNROLL for (int i = 0; i < token_blocks; ++i) {
      if (i > 0) Consumers::sync();  // the exchange buffer has been read
      exchange(totals, i, [&](int row, int output, float4 sum) {
        if (place.token + row >= place.tokens_end) return;
        if (alone) {
          write(place, row, output, sum);
        } else {
          store_as<float4>(partial(block_index().x, first, row, output), sum);
        }
      });
    }
    totals = {};
    if (!alone) fix_up(place, first, last);
  }

 private:
  // Sums the warps along k over their i-th eight tokens; calls body(row of the tile, first output, four sums).
  template <class Body>
  DEVICE static void exchange(const Totals& totals, int i, const Body& body) {
    const Shared<float> mine = shared_memory<float>() + warp_index() * exchange_floats;
    const auto lane = static_cast<int>(lane_index());
    const int g = lane / 4, t = lane % 4;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      UNROLL for (int j = 0; j < 4; ++j) {
        float value = totals.value[tile][i][j];
        if constexpr (Shape::quantized) {
          using Codes = Dequantizer<Element, bits, is_float(Shape::kind)>;
          constexpr float lower = Shape::corrected ? Codes::lower_unit : Codes::unit;
          constexpr float upper = Shape::corrected ? Codes::upper_unit : Codes::unit;
          if constexpr (lower != 1 || upper != 1) value *= j / 2 == 0 ? 1 / lower : 1 / upper;
        }
        mine[(2 * t + j % 2) * exchange_pitch + tile * 16 + j / 2 * 8 + g] = value;
      }
    }
    Consumers::sync();
    constexpr int row_fours = Tile::outputs / 4, fours = 8 * Tile::warps_tokens * row_fours;
    for (int four = static_cast<int>(thread_index().x); four < fours; four += Tile::threads) {
      const int row = four / row_fours, output = four % row_fours * 4;
      const int warp = output / strip_outputs * Tile::warps_tokens + row / 8;
      float4 sum = {};
      UNROLL for (int w = 0; w < Tile::warps_inputs; ++w) {
        const int owner = w * Tile::warps_tokens * Tile::warps_outputs + warp;
        sum = plus(sum, load_as<float4>(shared_memory<float>() + owner * exchange_floats + row % 8 * exchange_pitch +
                                        output % strip_outputs));
      }
      body(row / 8 * 8 * token_blocks + i * 8 + row % 8, output, sum);
    }
  }
  DEVICE static float4 plus(const float4& a, const float4& b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

  // A block's partial sums of a tile that begins in block `first`. A block has two slots: only its last tile can begin
  // in the block itself.
  DEVICE Global<float> partial(uint32_t block, uint32_t first, int row, int output) const {
    const int64_t slot = 2 * int64_t{block} + (block == first ? 1 : 0);
    return arguments.partials + (slot * Tile::tokens + row) * Tile::outputs + output;
  }

  DEVICE void fix_up(const TileCoord& place, uint32_t first, uint32_t last) const {
    const Global<int32_t> counter = arguments.counters + first;
    const Shared<int32_t> came = shared_memory<int32_t>();
    fence_device();
    Consumers::sync();
    if (thread_index().x == 0) came[0] = atomic_add(counter, 1);
    Consumers::sync();
    const int32_t before = came[0];
    if (before != static_cast<int32_t>(last - first)) return;
    fence_device();
    if (thread_index().x == 0) counter[0] = 0;
    constexpr int row_fours = Tile::outputs / 4;
    for (int four = static_cast<int>(thread_index().x); four < Tile::tokens * row_fours; four += Tile::threads) {
      const int row = four / row_fours, output = four % row_fours * 4;
      if (place.token + row >= place.tokens_end) continue;
      float4 sum = {};
      for (uint32_t block = first; block <= last; ++block) {
        sum = plus(sum, load_coherent<float4>(partial(block, first, row, output)));
      }
      write(place, row, output, sum);
    }
  }

  DEVICE void write(const TileCoord& place, int row, int output, const float4& sum) const {
    const GemmTarget& target = arguments.targets[place.target];
    const int column = place.column + output, rest = target.columns - column;
    float values[4] = {sum.x, sum.y, sum.z, sum.w};
    if constexpr (Shape::kind == CodeKind::e2m1) {
      const float unit = 1 / unit_of_scales(arguments.scale_type);
      UNROLL for (int i = 0; i < 4; ++i) {
        float scale = unit;
        if (target.output_scales && i < rest) {
          scale *= load_readonly<float>(target.output_scales + (place.first_row + column + i));
        }
        values[i] *= scale;
      }
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      if (target.bias && i < rest) values[i] += load_readonly<float>(target.bias + (place.first_row + column + i));
    }
    const int64_t at = out_row(arguments, target, place.token + row) + column;
    if (target.out_is_float) {
      write_four(pointer_cast<float>(target.out) + at, values, rest, target.wide);
    } else {
      write_four(pointer_cast<Element>(target.out) + at, values, rest, target.wide);
    }
  }
  template <class T>
  struct alignas(4 * sizeof(T)) Four {
    T value[4];
  };
  template <class T>
  DEVICE static void write_four(Global<T> to, const float (&values)[4], int rest, bool wide) {
    if (wide && rest >= 4) {
      store_as<Four<T>>(
          to, {from_float<T>(values[0]), from_float<T>(values[1]), from_float<T>(values[2]), from_float<T>(values[3])});
      return;
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      if (i < rest) to[i] = from_float<T>(values[i]);
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
