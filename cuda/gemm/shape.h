// The constants that follow from a kernel's types and tile.
#pragma once
#include <cstdint>

#include "gemm/launch.h"
#include "gemm/layout.h"
#include "gemm/tiles.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/warp.h"

namespace billfish::BILLFISH_TARGET {

template <class Element_, int bits_, CodeKind kind_, class Tile_>
struct GemmShape {
  using Element = Element_;
  using Tile = Tile_;
  static constexpr int bits = bits_;
  static constexpr CodeKind kind = kind_;
  static constexpr bool zero_points = kind == CodeKind::zero_points, quantized = bits != 16;
  static constexpr int token_blocks = Tile::token_blocks, steps = Tile::steps, threads = Tile::threads;

  // Whether sums are over raw codes and corrected (dequantize.h). That costs products and saves instructions, which
  // pays while tokens are few. For 16 tokens zero points would take more registers than two resident blocks have.
  static constexpr bool corrected =
      quantized && (token_blocks == 1 || (token_blocks == 2 && !(zero_points && Tile::resident == 2)));

  // The most k-blocks that are summed before a scale multiplies them. Sums over exact codes keep a whole scale block in
  // registers; 8 bits with zero points would need more than there are.
  static constexpr bool fours = quantized && steps % 4 == 0 && (corrected || !(bits == 8 && zero_points));
  static constexpr int max_scale_block = corrected && steps % 8 == 0 ? 8 : fours ? 4 : 2;
  static constexpr int scale_block_inputs = BILLFISH_TARGET::scale_block_inputs(kind == CodeKind::e2m1 ? 1 : 2);

  static constexpr int k_blocks = Tile::inputs / block_inputs, k_block_bytes = codes_block_bytes(bits);
  static constexpr int strips = Tile::warps_outputs, strip_bytes = k_blocks * k_block_bytes;  // of codes
  static constexpr int weight_bytes = Tile::outputs * Tile::inputs * bits / 8;
  static constexpr int x_bytes = Tile::tokens * Tile::inputs * 2;
  static constexpr int row_bytes = Tile::inputs * 2, row_chunks = row_bytes / 16;  // of x and of 16-bit weights
  static constexpr int max_groups = Tile::inputs / scale_block_inputs;
  static constexpr int max_scale_bytes = kind == CodeKind::e2m1 ? 1 : 4;
};

// XOR swizzle for rows of 16-bit elements in shared memory: in each of eight consecutive rows a column's 16-byte chunk
// is at a different position, so that the eight row reads of an ldmatrix hit different banks.
template <int row_bytes>
HOST_DEVICE constexpr uint32_t swizzled_byte(int row, int chunk) {
  return static_cast<uint32_t>(row * row_bytes + (chunk ^ (row & 7)) * 16);
}

// A stage in shared memory as cp.async fills it, 16 bytes at a time: [weights][x][scales][zeros]. x is swizzled; scales
// and zeros are [group][strip][64].
template <class Shape>
struct SwizzledStage {
  static constexpr uint32_t x_offset = Shape::weight_bytes, scale_offset = x_offset + Shape::x_bytes;
  static constexpr int row_pitch = Shape::row_bytes;
  HOST_DEVICE static constexpr uint32_t zero_offset(int scale_bytes) {
    return scale_offset + static_cast<uint32_t>(Shape::max_groups * Shape::Tile::outputs * scale_bytes);
  }
  static constexpr int entry_pitch = Shape::strips * 64;  // from group to group
  HOST_DEVICE static constexpr int entry(int strip, int group) { return group * entry_pitch + strip * 64; }
  // The offset of a 16-byte chunk of x, and of the chunk of the same row some k-blocks later. (A k-block later the
  // chunk's number is 2 higher; since a warp's first chunk is a multiple of its steps, the swizzled offset differs by
  // that bit.)
  HOST_DEVICE static constexpr uint32_t x_byte(const GemmArguments&, int row, int chunk) {
    return swizzled_byte<Shape::row_bytes>(row, chunk);
  }
  HOST_DEVICE static constexpr uint32_t x_step(uint32_t at, int step) {
    return x_offset + (at ^ static_cast<uint32_t>(32 * step));
  }
};

// A stage as bulk copies fill it: [weights][scales][zeros][x]. Scales and zeros are [strip][group][64]. x has only the
// rows that exist (one when decoding), each padded by 16 bytes, so that the chunks that an ldmatrix reads from eight
// rows are in different banks.
template <class Shape>
struct PaddedStage {
  static_assert(Shape::token_blocks <= 2);  // ldmatrix takes an address per row
  static constexpr uint32_t scale_offset = Shape::weight_bytes;
  static constexpr int row_pitch = Shape::row_bytes + 16;
  HOST_DEVICE static constexpr uint32_t zero_offset(int scale_bytes) {
    return scale_offset + static_cast<uint32_t>(Shape::max_groups * Shape::Tile::outputs * scale_bytes);
  }
  HOST_DEVICE static constexpr uint32_t x_offset(int scale_bytes) {
    return zero_offset(scale_bytes + (Shape::zero_points ? 1 : 0));
  }
  static constexpr int entry_pitch = 64;  // from group to group
  HOST_DEVICE static constexpr int entry(int strip, int group) {
    return (strip * Shape::max_groups + group) * entry_pitch;
  }
  // Missing rows read the last one; their results are not stored.
  HOST_DEVICE static constexpr uint32_t x_byte(const GemmArguments& arguments, int row, int chunk) {
    const int there = row < arguments.stage_rows ? row : arguments.stage_rows - 1;
    return x_offset(arguments.scale_bytes) + static_cast<uint32_t>(there * row_pitch + chunk * 16);
  }
  HOST_DEVICE static constexpr uint32_t x_step(uint32_t at, int step) { return at + static_cast<uint32_t>(32 * step); }
};

// Forces a value to stay in a register. The compiler considers whatever follows from the thread index alone cheap, and
// recomputes it in every iteration; a value that came from another lane it must keep. With 16 tokens registers are
// scarcer than instructions.
template <class Shape, class T>
DEVICE T settled(T value) {
  if constexpr (Shape::token_blocks == 2) return value;
  return shuffle(value, static_cast<int>(lane_index()));
}

}  // namespace billfish::BILLFISH_TARGET
