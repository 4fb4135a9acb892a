// The GEMM of experts: the staged GEMM, in which a tile's tokens are slots of one expert. The device sorts the slots
// (grouping.h), and the host does not know how many tiles there are: it launches as many blocks as there can be, one a
// tile, and those without a tile return.
//
// Rows of x and of out are found through the list of slots, so nothing is copied to sort it.
#pragma once
#include <cstdint>
#include <type_traits>

#include "gemm/epilogue.h"
#include "gemm/launch.h"
#include "gemm/multiply.h"
#include "gemm/shape.h"
#include "gemm/staged_gemm.h"
#include "gemm/staged_load.h"
#include "gemm/tiles.h"
#include "gemm/work_units.h"
#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

// --- Where tiles and rows are: what GroupedArguments change of GemmArguments.

template <class Tile>
DEVICE TileCoord tile_coord(const GroupedArguments& arguments, int tile) {
  const int token_tile = tile / arguments.column_tiles, column = tile - token_tile * arguments.column_tiles;
  const uint4 rows = load_readonly<uint4>(arguments.tiles + 4 * token_tile);
  TileCoord place = {static_cast<int>(rows.y), 0, 0, static_cast<int>(rows.z), 0};
  for (int i = 1; i < arguments.count; ++i) {
    if (column >= arguments.targets[i].first_column) place.target = i;
  }
  const GemmTarget& target = arguments.targets[place.target];
  place.column = (column - target.first_column) * Tile::outputs;
  place.first_row = static_cast<int>(rows.x) * ceil_div(target.columns, strip_outputs) * strip_outputs;
  return place;
}

DEVICE int64_t out_row(const GroupedArguments& arguments, const GemmTarget& target, int row) {
  const int slot = load_readonly<int32_t>(arguments.slots + row), token = slot / arguments.per_token;
  return token * target.out_stride + int64_t{slot - token * arguments.per_token} * target.columns;
}

// A thread's chunks of x are in rows anywhere.
template <class Shape>
class SlotRows {
  static constexpr int chunks = ceil_div(Shape::x_bytes / 16, Shape::threads);
  static constexpr int rows_between = Shape::threads / Shape::row_chunks;

 public:
  DEVICE void begin(const GroupedArguments& arguments, const TileCoord& place, int row, int byte) {
    const int first_row = place.token + row;
    valid_rows = place.tokens_end - first_row;
    UNROLL for (int i = 0; i < chunks; ++i) {
      // Rows that are not there read the last one's, and are zeroed.
      const int there = min(first_row + i * rows_between, place.tokens_end - 1);
      const int slot = load_readonly<int32_t>(arguments.slots + there), token = slot / arguments.per_token;
      rows[i] = arguments.x + (static_cast<uint64_t>(token) * arguments.x_pitch +
                               static_cast<uint64_t>(slot - token * arguments.per_token) * arguments.x_slot_pitch +
                               static_cast<uint32_t>(byte));
    }
  }
  DEVICE void advance() { UNROLL for (int i = 0; i < chunks; ++i) rows[i] += Shape::row_bytes; }
  template <int between>
  DEVICE Global<const uint8_t> chunk(const GroupedArguments&, int i) const {
    static_assert(between == rows_between);
    return rows[i];
  }
  template <int between>
  DEVICE bool exists(int i) const {
    return i * between < valid_rows;
  }

 private:
  Global<const uint8_t> rows[chunks];
  int valid_rows;
};

// --- The kernel.

template <class Element, int bits, CodeKind kind, class Tile>
struct GroupedGemm {
  static constexpr int max_threads = Tile::threads, min_blocks = Tile::resident;
  using Shape = GemmShape<Element, bits, kind, Tile>;

  GroupedArguments arguments;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();
    const auto token_tile = static_cast<int>(block_index().y);
    const int32_t tiles = load_readonly<int32_t>(arguments.tile_count);
    if (token_tile >= tiles) return;
    const int tile = token_tile * arguments.column_tiles + static_cast<int>(block_index().x);
    const uint4 rows = load_readonly<uint4>(arguments.tiles + 4 * token_tile);
    if (static_cast<int>(rows.x) == arguments.experts) return clear(tile);

    const auto begin = static_cast<uint32_t>(tile * arguments.k_tiles);
    StagedLoader<Shape, GroupedArguments, SlotRows<Shape>> loader(arguments, begin,
                                                                  begin + static_cast<uint32_t>(arguments.k_tiles));
    for (int stage = 0; stage + 1 < arguments.stages; ++stage) loader.next();
    const GemmMultiplier<Shape, SwizzledStage<Shape>> multiplier(arguments);
    const GemmEpilogue<Shape, AllWarps, GroupedArguments> epilogue{arguments};
    Accumulators<Shape> totals = {};
    uint32_t stage = stages_begin<Tile>;
    for (int k = 0; k < arguments.k_tiles; ++k) {
      wait_for_copies(arguments.stages - 2);
      sync_threads();  // this stage has arrived everywhere, and the previous one, which is refilled next, has been read
      loader.next();
      multiplier.multiply(stage, totals);
      stage += arguments.stage_bytes;
      if (stage == arguments.stages_end) stage = stages_begin<Tile>;
    }
    epilogue.store_tile(tile, 0, arguments.k_tiles, totals);
  }

 private:
  // Of slots whose experts are elsewhere.
  DEVICE void clear(int tile) const {
    const TileCoord place = tile_coord<Tile>(arguments, tile);
    const GemmTarget& target = arguments.targets[place.target];
    const int columns = min(Tile::outputs, target.columns - place.column);
    for (int row = place.token; row < place.tokens_end; ++row) {
      const int64_t at = out_row(arguments, target, row) + place.column;
      for (int n = static_cast<int>(thread_index().x); n < columns; n += Tile::threads) {
        if (target.out_is_float) {
          pointer_cast<float>(target.out)[at + n] = 0.0f;
        } else {
          pointer_cast<Element>(target.out)[at + n] = from_float<Element>(0.0f);
        }
      }
    }
  }
};

template <class Element, int bits, CodeKind kind>
void launch_grouped_gemm(Stream& stream, const GemmLaunch& shape, const GroupedArguments& arguments) {
  GroupedTiles<bits>::visit(shape.tile, [&]<class Tile>() {
    launch(stream,
           {.grid = {static_cast<uint32_t>(arguments.column_tiles), shape.blocks},
            .block = {Tile::threads},
            .shared_bytes = shape.shared_bytes,
            .programmatic = true},
           GroupedGemm<Element, bits, kind, Tile>{arguments});
  });
}

}  // namespace billfish::BILLFISH_TARGET
