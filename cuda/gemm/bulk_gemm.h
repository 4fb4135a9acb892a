// The warp-specialized GEMM for few tokens on sm_90 and later.
//
// One block per multiprocessor. Its last warp, the producer, fills a ring of stages with bulk copies, which cost the
// other threads no instructions and no registers, and runs as far ahead as shared memory allows, across tile boundaries
// too. The consumer warps wait for a stage's bytes, multiply, and release the stage; they never wait for each other in
// the loop.
//
// The main loop, the scheduling of tiles and the epilogue are those of staged_gemm.h.
#pragma once
#include <cstdint>

#include "gemm/bulk_load.h"
#include "gemm/epilogue.h"
#include "gemm/launch.h"
#include "gemm/multiply.h"
#include "gemm/shape.h"
#include "gemm/tiles.h"
#include "gemm/work_units.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

template <class Element, int bits, CodeKind kind, class Tile>
struct BulkGemm {
  static constexpr int producer_threads = 32, max_threads = Tile::threads + producer_threads, min_blocks = 1;
  using Shape = GemmShape<Element, bits, kind, Tile>;
  using Consumers = ConsumerWarps<Tile::threads>;

  GemmArguments arguments;

  DEVICE void operator()() const {
    if constexpr (has_bulk_copies) {
      run();
    } else {
      trap();  // an empty body would silently leave stale outputs
    }
  }

  DEVICE void run() const {
    launch_next_grid();
    if (thread_index().x == 0) {
      StageRing<Tile> ring(arguments);
      for (int stage = 0; stage < arguments.stages; ++stage, ring.advance()) {
        mbarrier_init(ring.full(), 1);
        mbarrier_init(ring.empty(), Tile::threads / 32);
      }
      fence_mbarrier_init();
    }
    sync_threads();
    const uint32_t begin = first_unit(arguments, block_index().x), end = first_unit(arguments, block_index().x + 1);
    if (warp_index() == Tile::threads / 32) {
      BulkProducer<Shape>(arguments).load(begin, end);
    } else {
      consume(begin, end);
    }
  }

  DEVICE void consume(uint32_t begin, uint32_t end) const {
    wait_for_previous_grid();
    const GemmMultiplier<Shape, PaddedStage<Shape>> multiplier(arguments);
    const GemmEpilogue<Shape, Consumers> epilogue{arguments};
    const WarpCoord<Tile> warp;
    Accumulators<Shape> totals = {};
    StageRing<Tile> ring(arguments);
    // Outputs and inputs may end before the warp's strip begins.
    const int first_output = warp.output * strip_outputs, first_input = warp.input * Shape::steps * block_inputs;
    int inputs = 0;  // 0: the warp's outputs do not exist
    auto start = [&](int tile) {
      const TileCoord place = tile_coord<Tile>(arguments, tile);
      inputs = place.column + first_output < arguments.targets[place.target].columns ? arguments.inputs : 0;
    };
    auto multiply = [&](int k) {
      mbarrier_wait(ring.full(), ring.parity());
      if (k * Tile::inputs + first_input < inputs) multiplier.multiply(ring.place(), totals);
      sync_warp();
      if (lane_index() == 0) mbarrier_arrive(ring.empty());
      ring.advance();
    };
    auto finish = [&](int tile, int first_k, int end_k) {
      Consumers::sync();  // the previous tile's exchange has been read
      epilogue.store_tile(tile, first_k, end_k, totals);
    };
    for_each_unit(arguments, begin, end, start, multiply, finish);
  }
};

template <class Element, int bits, CodeKind kind>
void launch_bulk_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments) {
  BulkTiles<bits>::visit(shape.tile, [&]<class Tile>() {
    using Kernel = BulkGemm<Element, bits, kind, Tile>;
    launch(stream,
           {.grid = {shape.blocks},
            .block = {Kernel::max_threads},
            .shared_bytes = shape.shared_bytes,
            .programmatic = true},
           Kernel{arguments});
  });
}

}  // namespace billfish::BILLFISH_TARGET
