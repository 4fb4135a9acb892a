// Tiles and units of the GEMM: which of them a block has, and where a tile lies.
#pragma once
#include <cstdint>

#include "gemm/arguments.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"

namespace billfish::BILLFISH_TARGET {

// Block b has units [first_unit(b), first_unit(b + 1)).
DEVICE uint32_t first_unit(const GemmArguments& arguments, uint32_t block) {
  return arguments.units / arguments.grain * block / grid_size().x * arguments.grain;
}
// Where a tile is shared, so that the grain is 1.
DEVICE uint32_t block_of_unit(const GemmArguments& arguments, uint32_t unit) {
  return ((unit + 1) * grid_size().x - 1) / arguments.units;
}

// For the units [begin, end): calls start(tile) where the block's part of a tile begins, multiply(k) for each unit of
// it, and finish(tile, first k, end of k) behind it.
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

// Where a tile lies: its first token, its target, and its first output within that.
struct TileCoord {
  int token, target, column;
};
template <class Tile>
DEVICE TileCoord tile_coord(const GemmArguments& arguments, int tile) {
  const int column = tile / arguments.token_tiles;
  TileCoord place = {(tile - column * arguments.token_tiles) * Tile::tokens, 0, 0};
  for (int i = 1; i < arguments.count; ++i) {
    if (column >= arguments.targets[i].first_column) place.target = i;
  }
  place.column = (column - arguments.targets[place.target].first_column) * Tile::outputs;
  return place;
}

}  // namespace billfish::BILLFISH_TARGET
