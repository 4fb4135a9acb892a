// Global to shared memory by bulk copies: the producer warp.
//
// Shared memory: the exchange of sums, two mbarriers per stage, the stages (PaddedStage of shape.h). A stage's `full`
// completes a phase when all its bytes have arrived; its `empty` when every consumer warp has released it. The packed
// layout is made for this: the codes of a strip's stage are contiguous, and so are its scales and its zero points.
#pragma once
#include <cstdint>

#include "gemm/launch.h"
#include "gemm/layout.h"
#include "gemm/shape.h"
#include "gemm/tiles.h"
#include "gemm/work_units.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// The ring of stages: the next stage's mbarriers, and the parity of its phase.
template <class Tile>
class StageRing {
 public:
  DEVICE explicit StageRing(const GemmArguments& given) : arguments(given) {}
  DEVICE Shared<uint64_t> full() const { return shared_memory<uint64_t>(exchange_bytes(Tile::threads)) + index; }
  DEVICE Shared<uint64_t> empty() const { return full() + max_stages; }
  DEVICE uint32_t parity() const { return round & 1; }
  DEVICE uint32_t place() const { return at; }  // offset of the stage in shared memory
  DEVICE void advance() {
    at += arguments.stage_bytes;
    if (++index < arguments.stages) return;
    index = 0;
    at = bulk_stages_begin(Tile::threads);
    ++round;
  }

 private:
  const GemmArguments& arguments;
  int index = 0;
  uint32_t round = 0, at = bulk_stages_begin(Tile::threads);
};

template <class Shape>
class BulkProducer {
  using Tile = typename Shape::Tile;
  using Stage = PaddedStage<Shape>;
  static_assert(Shape::strips <= 32 && Tile::tokens <= 32);  // a lane each

 public:
  DEVICE explicit BulkProducer(const GemmArguments& given)
      : arguments(given), lane(static_cast<int>(lane_index())), policy(evict_first_policy()) {}

  // Loads units [begin, end). Weights do not depend on other kernels, so those of the first stages are requested before
  // the previous kernel has finished; x follows afterwards.
  DEVICE void load(uint32_t begin, uint32_t end) const {
    const uint32_t first_round = min(end, begin + static_cast<uint32_t>(arguments.stages));
    StageRing<Tile> ahead(arguments), ring(arguments);
    for (uint32_t unit = begin; unit < first_round; ++unit, ahead.advance()) load_weights(unit, ahead);
    wait_for_previous_grid();
    for (uint32_t unit = begin; unit < first_round; ++unit, ring.advance()) load_x(unit, ring);
    for (uint32_t unit = first_round; unit < end; ++unit, ring.advance()) {
      mbarrier_wait(ring.empty(), ring.parity() ^ 1);
      load_weights(unit, ring);
      load_x(unit, ring);
    }
  }

 private:
  // The part of a unit that exists: inputs are a multiple of padded_inputs, and the last tile may overhang.
  struct Extent {
    DEVICE Extent(const GemmArguments& arguments, uint32_t unit)
        : k(static_cast<int>(unit) % arguments.k_tiles),
          place(tile_coord<Tile>(arguments, static_cast<int>(unit) / arguments.k_tiles)),
          first_strip(place.column / strip_outputs),
          strips(min((arguments.targets[place.target].columns + strip_outputs - 1) / strip_outputs - first_strip,
                     Shape::strips)),
          inputs(min(arguments.inputs - k * Tile::inputs, Tile::inputs)),
          first_group(k * Shape::max_groups >> arguments.group_shift),
          groups(((k * Shape::max_groups + inputs / Shape::scale_block_inputs - 1) >> arguments.group_shift) -
                 first_group + 1) {}
    int k;
    TileCoord place;
    int first_strip, strips, inputs, first_group, groups;
  };

  // Lane i copies the codes, scales and zero points of a strip.
  DEVICE void load_weights(uint32_t unit, const StageRing<Tile>& ring) const {
    const Extent extent(arguments, unit);
    const auto code_bytes = static_cast<uint32_t>(extent.inputs / block_inputs * Shape::k_block_bytes);
    const auto zero_bytes = static_cast<uint32_t>(extent.groups * strip_outputs);
    const uint32_t scale_bytes = zero_bytes * static_cast<uint32_t>(arguments.scale_bytes);
    if (lane == 0) {
      const uint32_t strip_bytes = code_bytes + scale_bytes + (Shape::zero_points ? zero_bytes : 0);
      mbarrier_arrive_and_expect(ring.full(), static_cast<uint32_t>(extent.strips) * strip_bytes +
                                                  static_cast<uint32_t>(arguments.stage_rows) * x_bytes(extent));
    }
    sync_warp();
    if (lane >= extent.strips) return;
    const GemmTarget& target = arguments.targets[extent.place.target];
    const Shared<uint8_t> to = shared_memory<uint8_t>(ring.place());
    const int strip = extent.first_strip + lane;
    bulk_copy(
        to + lane * Shape::strip_bytes,
        target.weights + (static_cast<int64_t>(strip) * target.weight_pitch + int64_t{extent.k} * Shape::strip_bytes),
        code_bytes, ring.full(), policy);
    const int64_t entry = (static_cast<int64_t>(strip) * arguments.groups + extent.first_group) * strip_outputs;
    bulk_copy(to + (Stage::scale_offset + Stage::entry(lane, 0) * arguments.scale_bytes),
              target.scales + entry * arguments.scale_bytes, scale_bytes, ring.full(), policy);
    if constexpr (Shape::zero_points) {
      bulk_copy(to + (Stage::zero_offset(arguments.scale_bytes) + Stage::entry(lane, 0)), target.zeros + entry,
                zero_bytes, ring.full(), policy);
    }
  }

  // Lane i copies a row. An overhanging tile reads the last row more than once.
  DEVICE void load_x(uint32_t unit, const StageRing<Tile>& ring) const {
    if (lane >= arguments.stage_rows) return;
    const Extent extent(arguments, unit);
    const int row = min(extent.place.token + lane, arguments.rows - 1);
    bulk_copy(shared_memory<uint8_t>(ring.place()) + (Stage::x_offset(arguments.scale_bytes) + lane * Stage::row_pitch),
              arguments.x + (static_cast<int64_t>(row) * arguments.x_pitch + int64_t{extent.k} * Shape::row_bytes),
              x_bytes(extent), ring.full());
  }
  DEVICE static uint32_t x_bytes(const Extent& extent) { return static_cast<uint32_t>(extent.inputs * 2); }

  const GemmArguments& arguments;
  int lane;
  CachePolicy policy;
};

}  // namespace billfish::BILLFISH_TARGET
