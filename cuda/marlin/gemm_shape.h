// The numbers that follow from a kernel's types and tile.
#pragma once
#include <cstdint>

#include "marlin/layout.h"
#include "marlin/tiles.h"
#include "primitives/macros.h"
#include "primitives/math.h"

namespace billfish::BILLFISH_TARGET {

template <class Element_, int bits_, bool zero_points_, class Tile_>
struct GemmShape {
  using Element = Element_;
  using Tile = Tile_;
  static constexpr int bits = bits_;
  static constexpr bool zero_points = zero_points_, quantised = bits != 16;
  static constexpr int token_blocks = Tile::token_blocks, steps = Tile::steps, threads = Tile::threads;

  // Whether sums are over raw codes, and corrected (dequantise.h). It costs products and saves instructions: right
  // while tokens are few. With zero points of 8 bits and 16 tokens it would take more registers than two blocks have.
  static constexpr bool corrected =
      quantised && (token_blocks == 1 || (token_blocks == 2 && !(bits == 8 && zero_points)));

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

  // A fold: the k-blocks whose products are summed before a scale multiplies them.
  static constexpr int fold_steps = fold_inputs / block_inputs, folds = steps / fold_steps;
};

// Rows of 16-bit elements in shared memory, read by ldmatrix eight rows at a time: a column's 16-byte chunk stands at
// another place in each of eight rows, so that the eight reads meet eight different groups of banks.
template <int row_bytes>
HOST_DEVICE constexpr uint32_t swizzled_byte(int row, int chunk) {
  return static_cast<uint32_t>(row * row_bytes + (chunk ^ (row & 7)) * 16);
}

}  // namespace billfish::BILLFISH_TARGET
