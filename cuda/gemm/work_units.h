// Tiles and work units of the GEMM: which units a block runs, and where a tile is.
#pragma once
#include <cstdint>

#include "gemm/launch.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"

namespace billfish::BILLFISH_TARGET {

// Block b runs units [first_unit(b), first_unit(b + 1)).
DEVICE uint32_t first_unit(const GemmArguments& arguments, uint32_t block) {
  return arguments.units / arguments.grain * block / grid_size().x * arguments.grain;
}
// The block that runs a unit, with grain 1 (tiles are shared).
DEVICE uint32_t block_of_unit(const GemmArguments& arguments, uint32_t unit) {
  return ((unit + 1) * grid_size().x - 1) / arguments.units;
}

// For units [begin, end): calls start(tile) at the start of the block's part of a tile, multiply(k) for each of its
// units, and finish(tile, first k, end of k) after them.
template <class Start, class Multiply, class Finish>
DEVICE void for_each_unit(const GemmArguments& arguments, uint32_t begin, uint32_t end, const Start& start,
                          const Multiply& multiply, const Finish& finish) {
  int tile = static_cast<int>(begin) / arguments.k_tiles, k = static_cast<int>(begin) % arguments.k_tiles;
  int units = static_cast<int>(end - begin);
  while (units > 0) {
    const int first_k = k, end_k = min(k + units, arguments.k_tiles);
    start(tile);
    for (; k < end_k; ++k) multiply(k);
    finish(tile, first_k, end_k);
    units -= end_k - first_k;
    k = 0;
    ++tile;
  }
}

// A tile's position: its first token and where the tokens end, its target, its first output within the target, and the
// row of the target's weight that output 0 is (that of an expert, else 0).
struct TileCoord {
  int token, target, column, tokens_end, first_row;
};
template <class Tile>
DEVICE TileCoord tile_coord(const GemmArguments& arguments, int tile) {
  const int column = tile / arguments.token_tiles;
  TileCoord place = {(tile - column * arguments.token_tiles) * Tile::tokens, 0, 0, arguments.rows, 0};
  for (int i = 1; i < arguments.count; ++i) {
    if (column >= arguments.targets[i].first_column) place.target = i;
  }
  place.column = (column - arguments.targets[place.target].first_column) * Tile::outputs;
  return place;
}

// The element of a target's out, of its `columns` outputs, where row `row` of x begins.
DEVICE int64_t out_row(const GemmArguments&, const GemmTarget& target, int row) { return row * target.out_stride; }

}  // namespace billfish::BILLFISH_TARGET
