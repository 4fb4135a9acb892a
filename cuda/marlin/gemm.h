// The GEMM of linear.h: y^T = W x^T on tensor cores, with W dequantised between shared memory and registers.
//
// Work is cut into units: a tile of the result (Tile::tokens x Tile::outputs) times Tile::inputs of k. Units are
// numbered tile after tile, k fastest, and each block takes an equal run of them, wherever it begins and ends:
//
//            tile 0        tile 1        tile 2
//        k 0 ......... 0 ......... 0 .........        3 tiles of 10 units for 4 blocks: A and B share tile 0,
//          AAAAAAAABB    BBBBBCCCCC    CCDDDDDDDD     B and C tile 1, C and D tile 2
//
// so that all multiprocessors stop at the same time. The sums of a shared tile go into the workspace; whoever comes
// last adds them, in the order of k whoever that is, and leaves the tile's counter at zero. Nobody waits for another
// block.
//
// Inside a block a unit is a stage of shared memory, filled by cp.async some stages ahead of its use. Warps stand as
// warps_tokens x warps_outputs x warps_inputs: each multiplies a strip of 64 outputs by 8 * token_blocks tokens over
// `steps` k-blocks of the stage. Sums over the warps along k are made at the end of the tile.
//
// A group's scale multiplies the fp32 sum of a fold, the products over 32 inputs. For few tokens, where instructions
// and not tensor cores are short, sums are over raw codes and corrected by an mma (dequantise.h); for many, codes are
// made exact before they are multiplied.
#pragma once
#include <cstdint>

#include "marlin/dequantise.h"
#include "marlin/gemm_arguments.h"
#include "marlin/gemm_load.h"
#include "marlin/gemm_multiply.h"
#include "marlin/gemm_shape.h"
#include "marlin/tiles.h"
#include "primitives/async_copy.h"
#include "primitives/atomic.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// Waits until at most `pending` of this thread's groups of copies are on their way. Two is what most plans have.
DEVICE void wait_for_copies(int pending) {
  if (pending == 2) return cp_async_wait<2>();
  switch (pending) {
    case 0:
      return cp_async_wait<0>();
    case 1:
      return cp_async_wait<1>();
    case 3:
      return cp_async_wait<3>();
    case 4:
      return cp_async_wait<4>();
    case 5:
      return cp_async_wait<5>();
    default:
      return cp_async_wait<6>();
  }
}

template <class Element, int bits, bool zero_points, class Tile>
struct Gemm {
  static constexpr int max_threads = Tile::threads, min_blocks = Tile::resident;
  static constexpr int token_blocks = Tile::token_blocks;
  using Shape = GemmShape<Element, bits, zero_points, Tile>;
  using Totals = GemmTotals<Shape>;

  GemmArguments arguments;

  DEVICE void operator()() const {
    const uint32_t begin = first_unit(block_index().x), end = first_unit(block_index().x + 1);
    GemmLoader<Shape> loader(arguments, begin, end);
    launch_next_grid();
    loader.prefetch();
    wait_for_previous_grid();
    for (int stage = 0; stage + 1 < arguments.stages; ++stage) loader.next();

    const GemmMultiplier<Shape> multiplier(arguments);
    Totals totals = {};
    int tile = static_cast<int>(begin) / arguments.k_tiles, k = static_cast<int>(begin) % arguments.k_tiles;
    int units = static_cast<int>(end - begin);
    uint32_t stage = stages_begin<Tile>;
    while (units > 0) {
      const int first_k = k, end_k = min(k + units, arguments.k_tiles);
      for (; k < end_k; ++k) {
        wait_for_copies(arguments.stages - 2);
        sync_threads();  // all have this stage's copies, and have read the stage before it, which is filled next
        loader.next();
        multiplier.multiply(stage, totals);
        stage += arguments.stage_bytes;
        if (stage == arguments.stages_end) stage = stages_begin<Tile>;
      }
      finish_tile(tile, first_k, end_k, totals);
      units -= end_k - first_k;
      k = 0;
      ++tile;
    }
  }

  // Block b has units [first_unit(b), first_unit(b + 1)).
  DEVICE uint32_t first_unit(uint32_t block) const {
    return arguments.units / arguments.grain * block / grid_size().x * arguments.grain;
  }
  // Where a tile is shared, so that the grain is 1.
  DEVICE uint32_t block_of(uint32_t unit) const { return ((unit + 1) * grid_size().x - 1) / arguments.units; }

  // --- The end of a tile, or of this block's part of it: units [first_k, end_k) of it are in `totals`.
  DEVICE void finish_tile(int tile, int first_k, int end_k, Totals& totals) const {
    const TilePlace place = place_of<Tile>(arguments, tile);
    const bool alone = first_k == 0 && end_k == arguments.k_tiles;
    uint32_t first = block_index().x, last = first;
    if (!alone) {
      const uint32_t begin = static_cast<uint32_t>(tile) * static_cast<uint32_t>(arguments.k_tiles);
      first = block_of(begin);
      last = block_of(begin + static_cast<uint32_t>(arguments.k_tiles) - 1);
    }
    UNROLL for (int i = 0; i < token_blocks; ++i) {
      if (i > 0) sync_threads();  // the exchange has been read
      exchange(totals, i, [&](int row, int output, float4 sum) {
        if (place.token + row >= arguments.rows) return;
        if (alone) {
          write(place, row, output, sum);
        } else {
          store_as<float4>(partial(block_index().x, first, row, output), sum);
        }
      });
    }
    totals = {};
    if (!alone) add_partials(place, first, last);
  }

  // Sums the warps along k over their i-th eight tokens; calls body(row of the tile, first output, four sums).
  template <class Body>
  DEVICE static void exchange(const Totals& totals, int i, const Body& body) {
    const Shared<float> mine = shared_memory<float>() + warp_index() * exchange_floats;
    const auto lane = static_cast<int>(lane_index());
    const int g = lane / 4, t = lane % 4;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      UNROLL for (int j = 0; j < 4; ++j) {
        float value = totals.value[tile][i][j];
        if constexpr (Shape::corrected) {
          using Codes = Dequantiser<Element, bits>;
          value *= j / 2 == 0 ? 1 / Codes::lower_unit : 1 / Codes::upper_unit;
        }
        mine[(2 * t + j % 2) * exchange_pitch + tile * 16 + j / 2 * 8 + g] = value;
      }
    }
    sync_threads();
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

  // Where a block keeps its sums of a tile that begins in block `first`: only its last tile can begin in itself.
  DEVICE Global<float> partial(uint32_t block, uint32_t first, int row, int output) const {
    const int64_t slot = 2 * int64_t{block} + (block == first ? 1 : 0);
    return arguments.partials + (slot * Tile::tokens + row) * Tile::outputs + output;
  }

  DEVICE void add_partials(const TilePlace& place, uint32_t first, uint32_t last) const {
    const Global<int32_t> counter = arguments.counters + first;
    const Shared<int32_t> came = shared_memory<int32_t>();
    fence_device();
    sync_threads();
    if (thread_index().x == 0) came[0] = atomic_add(counter, 1);
    sync_threads();
    const int32_t before = came[0];
    if (before != static_cast<int32_t>(last - first)) return;
    fence_device();
    if (thread_index().x == 0) counter[0] = 0;
    constexpr int row_fours = Tile::outputs / 4;
    for (int four = static_cast<int>(thread_index().x); four < Tile::tokens * row_fours; four += Tile::threads) {
      const int row = four / row_fours, output = four % row_fours * 4;
      if (place.token + row >= arguments.rows) continue;
      float4 sum = {};
      for (uint32_t block = first; block <= last; ++block) {
        sum = plus(sum, load_coherent<float4>(partial(block, first, row, output)));
      }
      write(place, row, output, sum);
    }
  }

  DEVICE void write(const TilePlace& place, int row, int output, const float4& sum) const {
    const GemmTarget& target = arguments.targets[place.target];
    const int column = place.column + output, rest = target.columns - column;
    float values[4] = {sum.x, sum.y, sum.z, sum.w};
    UNROLL for (int i = 0; i < 4; ++i) {
      if (target.bias && i < rest) values[i] += load_readonly<float>(target.bias + column + i);
    }
    const int64_t at = (place.token + row) * target.out_stride + column;
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
