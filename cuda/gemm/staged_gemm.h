// The multistage GEMM of linear.h: y^T = W x^T on tensor cores, with W dequantized between shared memory and registers.
//
// Scheduling is stream-K. A work unit is an output tile (Tile::tokens x Tile::outputs) times Tile::inputs of k. Units
// are numbered tile by tile, k fastest, and every block takes an equal range of them, wherever it begins and ends:
//
//            tile 0        tile 1        tile 2
//        k 0 ......... 0 ......... 0 .........        3 tiles of 10 units for 4 blocks: A and B share tile 0,
//          AAAAAAAABB    BBBBBCCCCC    CCDDDDDDDD     B and C tile 1, C and D tile 2
//
// so that all multiprocessors finish together. Partial sums of a shared tile go to the workspace; the last block to
// arrive adds them (epilogue.h).
//
// Within a block a unit is one stage of shared memory, filled by cp.async some stages ahead of its use. Warps form a
// grid of warps_tokens x warps_outputs x warps_inputs: each multiplies a strip of 64 outputs by 8 * token_blocks tokens
// over `steps` k-blocks of the stage. The epilogue sums over the warps along k.
//
// A group's scale multiplies the fp32 sum of a scale block, the products over 32 inputs or more. For few tokens, where
// instruction issue is the limit, sums are over raw codes and corrected by an mma (dequantize.h); for many, codes are
// converted exactly before they are multiplied.
#pragma once
#include <cstdint>
#include <type_traits>

#include "gemm/epilogue.h"
#include "gemm/launch.h"
#include "gemm/multiply.h"
#include "gemm/shape.h"
#include "gemm/staged_load.h"
#include "gemm/tiles.h"
#include "gemm/work_units.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

// Waits until at most `pending` of this thread's copy groups are in flight. Most plans use two.
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

template <class Element, int bits, CodeKind kind, class Tile>
struct Gemm {
  static constexpr int max_threads = Tile::threads, min_blocks = Tile::resident;
  using Shape = GemmShape<Element, bits, kind, Tile>;

  GemmArguments arguments;

  DEVICE void operator()() const {
    const uint32_t begin = first_unit(arguments, block_index().x), end = first_unit(arguments, block_index().x + 1);
    StagedLoader<Shape> loader(arguments, begin, end);
    launch_next_grid();
    loader.prefetch();
    wait_for_previous_grid();
    for (int stage = 0; stage + 1 < arguments.stages; ++stage) loader.next();

    const GemmMultiplier<Shape, SwizzledStage<Shape>> multiplier(arguments);
    const GemmEpilogue<Shape, AllWarps> epilogue{arguments};
    Accumulators<Shape> totals = {};
    uint32_t stage = stages_begin<Tile>;
    auto multiply = [&](int) {
      wait_for_copies(arguments.stages - 2);
      sync_threads();  // this stage has arrived everywhere, and the previous one, which is refilled next, has been read
      loader.next();
      multiplier.multiply(stage, totals);
      stage += arguments.stage_bytes;
      if (stage == arguments.stages_end) stage = stages_begin<Tile>;
    };
    auto finish = [&](int tile, int first_k, int end_k) { epilogue.store_tile(tile, first_k, end_k, totals); };
    for_each_unit(
        arguments, begin, end, [](int) {}, multiply, finish);
  }
};

template <class Element, int bits, CodeKind kind>
void launch_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments) {
  using Tiles = std::conditional_t<bits == 16, ElementTiles, QuantizedTiles>;
  Tiles::visit(shape.tile, [&]<class Tile>() {
    launch(stream,
           {.grid = {shape.blocks}, .block = {Tile::threads}, .shared_bytes = shape.shared_bytes, .programmatic = true},
           Gemm<Element, bits, kind, Tile>{arguments});
  });
}

}  // namespace billfish::BILLFISH_TARGET
