// The numbers that follow from a kernel's types and tile.
#pragma once
#include <cstdint>

#include "marlin/layout.h"
#include "marlin/tiles.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/warp.h"

namespace billfish::BILLFISH_TARGET {

template <class Element_, int bits_, bool zero_points_, class Tile_>
struct GemmShape {
  using Element = Element_;
  using Tile = Tile_;
  static constexpr int bits = bits_;
  static constexpr bool zero_points = zero_points_, quantised = bits != 16;
  static constexpr int token_blocks = Tile::token_blocks, steps = Tile::steps, threads = Tile::threads;

  // Whether sums are over raw codes, and corrected (dequantise.h). It costs products and saves instructions: right
  // while tokens are few. For 16 tokens zero points would take more registers than two blocks have.
  static constexpr bool corrected = quantised && (token_blocks == 1 || (token_blocks == 2 && !zero_points));

  // Whether four k-blocks are summed before a scale multiplies them, where groups have so many; else two.
  static constexpr bool long_folds = quantised && steps % 4 == 0 && !(bits == 8 && zero_points);

  // A stage of shared memory: [weights][x][scales][zeros].
  static constexpr int k_blocks = Tile::inputs / block_inputs, k_block_bytes = codes_block_bytes(bits);
  static constexpr int strips = Tile::warps_outputs, strip_bytes = k_blocks * k_block_bytes;  // of codes
  static constexpr int weight_bytes = Tile::outputs * Tile::inputs * bits / 8;
  static constexpr int x_bytes = Tile::tokens * Tile::inputs * 2;
  static constexpr int row_bytes = Tile::inputs * 2, row_chunks = row_bytes / 16;  // of x and of 16-bit weights
  static constexpr int most_groups = Tile::inputs / fold_inputs;
  static constexpr uint32_t x_place = weight_bytes, scale_place = weight_bytes + x_bytes;
  HOST_DEVICE static constexpr uint32_t zero_place(int scale_bytes) {
    return scale_place + static_cast<uint32_t>(most_groups * Tile::outputs * scale_bytes);
  }
};

// Rows of 16-bit elements in shared memory, read by ldmatrix eight rows at a time: a column's 16-byte chunk stands at
// another place in each of eight rows, so that the eight reads meet eight different groups of banks.
template <int row_bytes>
HOST_DEVICE constexpr uint32_t swizzled_byte(int row, int chunk) {
  return static_cast<uint32_t>(row * row_bytes + (chunk ^ (row & 7)) * 16);
}

// The same value, in a register from here on. What follows from the thread's index alone is cheap in a compiler's eyes,
// which then works it out anew in every turn of the loop; what came from another lane it has to keep. With 16 tokens
// registers are the scarcer thing.
template <class Shape, class T>
DEVICE T settled(T value) {
  if constexpr (Shape::token_blocks == 2) return value;
  return shuffle(value, static_cast<int>(lane_index()));
}

}  // namespace billfish::BILLFISH_TARGET
