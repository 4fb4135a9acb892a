// The main loop: shared memory to registers, and the products of one warp with a stage.
#pragma once
#include <cstdint>
#include <type_traits>

#include "gemm/dequantize.h"
#include "gemm/launch.h"
#include "gemm/layout.h"
#include "gemm/shape.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/mma.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// A warp's accumulators: 64 outputs by 8 * token_blocks tokens, as C fragments of [16 outputs][8 tokens].
template <class Shape>
struct Accumulators {
  float value[4][Shape::token_blocks][4];
};

// The warp's coordinates in the block.
template <class Tile>
struct WarpCoord {
  DEVICE WarpCoord() {
    const auto warp = static_cast<int>(warp_index());
    token = warp % Tile::warps_tokens;
    output = warp / Tile::warps_tokens % Tile::warps_outputs;
    input = warp / (Tile::warps_tokens * Tile::warps_outputs);
  }
  int token, output, input;
};

// Stage: the layout of a stage in shared memory (shape.h).
template <class Shape, class Stage>
class GemmMultiplier {
  using Element = typename Shape::Element;
  using Tile = typename Shape::Tile;
  using Totals = Accumulators<Shape>;
  static constexpr int bits = Shape::bits, token_blocks = Shape::token_blocks;
  using Codes = Dequantizer<Element, bits, is_float(Shape::kind)>;

 public:
  DEVICE explicit GemmMultiplier(const GemmArguments& given) : arguments(given) {
    const WarpCoord<Tile> warp;
    const auto lane = static_cast<int>(lane_index());
    const int first_k_block = warp.input * Shape::steps;  // of the stage
    // ldmatrix: lanes 0-7 address the rows of the first 8x8 matrix, 8-15 those of the second, and so on. For x the
    // second matrix is the other half of k; the third and fourth are the next eight tokens or, if there are none, the
    // next k-block. For 16-bit weights the second is the next eight outputs, the third and fourth the other half of k.
    const int token = warp.token * 8 * token_blocks + lane / 16 * 8 * (token_blocks > 1) + lane % 8;
    x_at = settled<Shape>(Stage::x_byte(given, token, 2 * first_k_block + lane / 8 % (pairs ? 4 : 2)));
    if constexpr (Shape::quantized) {
      const int first = warp.output * Shape::strip_bytes + first_k_block * Shape::k_block_bytes + lane * 16;
      weights_at = settled<Shape>(static_cast<uint32_t>(first));
      UNROLL for (int scale_block = 0; scale_block < scale_blocks; ++scale_block) {
        const int group =
            (first_k_block * block_inputs / Shape::scale_block_inputs + scale_block) >> arguments.group_shift;
        entries[scale_block] = settled<Shape>(Stage::entry(warp.output, group) + lane / 4 * 8);
      }
    } else {
      const int output = warp.output * strip_outputs + lane % 16;
      weights_at = settled<Shape>(swizzled_byte<Shape::row_bytes>(output, 2 * first_k_block + lane / 16));
    }
  }

  // Accumulates the stage's products.
  DEVICE void multiply(uint32_t stage, Totals& totals) const {
    const Shared<const uint8_t> from = shared_memory<uint8_t>(stage);
    if constexpr (Shape::quantized) {
      constexpr int longest = Shape::max_scale_block;
      if constexpr (Shape::kind == CodeKind::e2m1) {
        arguments.group_shift >= 1 ? multiply_scale_blocks<2>(from, totals) : multiply_scale_blocks<1>(from, totals);
      } else if (longest == 8 && arguments.group_shift >= 2) {
        multiply_scale_blocks<longest>(from, totals);
      } else if (longest >= 4 && arguments.group_shift >= 1) {
        multiply_scale_blocks<min(longest, 4)>(from, totals);
      } else {
        multiply_scale_blocks<2>(from, totals);
      }
    } else {
      UNROLL for (int step = 0; step < Shape::steps; ++step) multiply_elements(from, step, totals);
    }
  }

 private:
  static constexpr bool pairs = Shape::quantized && token_blocks == 1;  // whether one ldmatrix reads two k-blocks of x

  // The B operands of 16 inputs by 8 * token_blocks tokens.
  DEVICE void load_x(Shared<const uint8_t> from, int step, uint32_t (&x)[token_blocks][2]) const {
    const Shared<const uint8_t> row = from + Stage::x_step(x_at, step);
    if constexpr (token_blocks == 1) {
      ldmatrix<2>(x[0], row);
    } else {
      UNROLL for (int i = 0; i < token_blocks; i += 2) {
        uint32_t four[4];
        ldmatrix<4>(four, row + i * 8 * Stage::row_pitch);
        x[i][0] = four[0], x[i][1] = four[1], x[i + 1][0] = four[2], x[i + 1][1] = four[3];
      }
    }
  }
  template <int scale_block_steps>
  DEVICE void load_scale_block_x(Shared<const uint8_t> from, int first_step,
                                 uint32_t (&x)[scale_block_steps][token_blocks][2]) const {
    if constexpr (pairs && scale_block_steps % 2 == 0) {
      UNROLL for (int i = 0; i < scale_block_steps; i += 2) {
        uint32_t four[4];
        ldmatrix<4>(four, from + Stage::x_step(x_at, first_step + i));
        x[i][0][0] = four[0], x[i][0][1] = four[1], x[i + 1][0][0] = four[2], x[i + 1][0][1] = four[3];
      }
    } else {
      UNROLL for (int i = 0; i < scale_block_steps; ++i) load_x(from, first_step + i, x[i]);
    }
  }

  // A scale block: k-blocks of one group, whose products are summed before its scales multiply them.
  template <int scale_block_steps>
  DEVICE void multiply_scale_blocks(Shared<const uint8_t> from, Totals& totals) const {
    UNROLL for (int step = 0; step < Shape::steps; step += scale_block_steps)
        multiply_scale_block<scale_block_steps>(from, step, totals);
  }

  template <int scale_block_steps>
  DEVICE void multiply_scale_block(Shared<const uint8_t> from, int first_step, Totals& totals) const {
    uint32_t x[scale_block_steps][token_blocks][2];
    load_scale_block_x(from, first_step, x);
    const int entry = entry_of(first_step);
    float scales[8];
    load_scales(from + Stage::scale_offset, entry, scales);
    const Shared<const uint8_t> zeros = from + (Stage::zero_offset(arguments.scale_bytes) + entry);
    const Shared<const uint8_t> codes = from + (weights_at + first_step * Shape::k_block_bytes);
    if constexpr (Shape::corrected) {
      uint2 eight = {};
      if constexpr (Shape::zero_points) eight = load_as<uint2>(zeros);
      multiply_raw(codes, x, eight, scales, totals);
    } else {
      multiply_exact(codes, x, zeros, scales, totals);
    }
  }

  // k-block by k-block, with the sums of all four tiles live.
  template <int scale_block_steps>
  DEVICE static void multiply_raw(Shared<const uint8_t> from, const uint32_t (&x)[scale_block_steps][token_blocks][2],
                                  uint2 zeros, const float (&scales)[8], Totals& totals) {
    float sums[4][token_blocks][4];
    correct(x, zeros, sums);
    UNROLL for (int step = 0; step < scale_block_steps; ++step) {
      uint32_t codes[4][bits / 4];
      load_codes(from + step * Shape::k_block_bytes, codes);
      UNROLL for (int tile = 0; tile < 4; ++tile) {
        uint32_t a[4];
        Codes::raw(codes[tile], a);
        UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[tile][i], a, x[step][i]);
      }
    }
    UNROLL for (int tile = 0; tile < 4; ++tile) add_scaled(scales, tile, sums[tile], totals);
  }

  // Initializes the sums over raw numbers with their correction: -unit * (zero + base) times the sum of x, which an mma
  // with a matrix of ones puts into every row.
  template <int scale_block_steps>
  DEVICE static void correct(const uint32_t (&x)[scale_block_steps][token_blocks][2], uint2 zeros,
                             float (&sums)[4][token_blocks][4]) {
    constexpr float center = Codes::middle + Codes::base;
    constexpr bool needed = Shape::zero_points || center != 0;
    float sum_of_x[token_blocks][4] = {};
    if constexpr (needed) {
      constexpr uint32_t one = std::is_same_v<Element, half> ? 0x3c003c00u : 0x3f803f80u;  // twice
      const uint32_t ones[4] = {one, one, one, one};
      UNROLL for (int step = 0; step < scale_block_steps; ++step) {
        UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sum_of_x[i], ones, x[step][i]);
      }
      UNROLL for (int i = 0; i < token_blocks; ++i) {
        UNROLL for (int j = 0; j < 4; ++j) sum_of_x[i][j] *= j / 2 == 0 ? -Codes::lower_unit : -Codes::upper_unit;
      }
    }
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      float number[2] = {center, center};
      if constexpr (Shape::zero_points) {
        const uint32_t four = tile < 2 ? zeros.x : zeros.y;
        UNROLL for (int j = 0; j < 2; ++j) number[j] = byte_plus(four, tile % 2 * 2 + j, Codes::base);
      }
      UNROLL for (int i = 0; i < token_blocks; ++i) {
        UNROLL for (int j = 0; j < 4; ++j) sums[tile][i][j] = needed ? number[j / 2] * sum_of_x[i][j] : 0;
      }
    }
  }

  // Tile by tile, with exact codes: for many tokens, whose sums would not fit into registers otherwise.
  template <int scale_block_steps>
  DEVICE static void multiply_exact(Shared<const uint8_t> from, const uint32_t (&x)[scale_block_steps][token_blocks][2],
                                    Shared<const uint8_t> zeros, const float (&scales)[8], Totals& totals) {
    uint32_t codes[scale_block_steps][4][bits / 4];
    UNROLL for (int step = 0; step < scale_block_steps; ++step)
        load_codes(from + step * Shape::k_block_bytes, codes[step]);
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      float sums[token_blocks][4] = {};
      ZeroPoints zero = Codes::center;
      if constexpr (Shape::zero_points) zero = Codes::prepare(load_as<uint32_t>(zeros + tile / 2 * 4), tile % 2);
      UNROLL for (int step = 0; step < scale_block_steps; ++step) {
        uint32_t a[4];
        Codes::template convert<Shape::zero_points>(codes[step][tile], zero, a);
        UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[i], a, x[step][i]);
      }
      add_scaled(scales, tile, sums, totals);
    }
  }

  DEVICE static void add_scaled(const float (&scales)[8], int tile, const float (&sums)[token_blocks][4],
                                Totals& totals) {
    UNROLL for (int i = 0; i < token_blocks; ++i) {
      UNROLL for (int j = 0; j < 4; ++j) {
        float& total = totals.value[tile][i][j];
        total = fused_multiply_add(scales[2 * tile + j / 2], sums[i][j], total);
      }
    }
  }

  DEVICE static void load_codes(Shared<const uint8_t> from, uint32_t (&codes)[4][bits / 4]) {
    UNROLL for (int i = 0; i < bits / 4; ++i) {
      const uint4 four = load_as<uint4>(from + i * 512);
      if constexpr (bits == 4) {
        codes[0][0] = four.x, codes[1][0] = four.y, codes[2][0] = four.z, codes[3][0] = four.w;
      } else {
        codes[2 * i][0] = four.x, codes[2 * i][1] = four.y, codes[2 * i + 1][0] = four.z, codes[2 * i + 1][1] = four.w;
      }
    }
  }

  // The lane's first scale and zero point for a k-block. Those of short groups are too many to keep; as a warp's first
  // k-block is a multiple of its steps, they are evenly apart.
  DEVICE int entry_of(int step) const {
    if constexpr (Shape::kind != CodeKind::e2m1) return entries[step / 2];
    return entries[0] + (step >> arguments.group_shift) * Stage::entry_pitch;
  }

  // Loads eight scales from entry `at` on.
  DEVICE void load_scales(Shared<const uint8_t> from, int at, float (&scales)[8]) const {
    if constexpr (Shape::kind == CodeKind::e2m1) {
      return unpack_byte_scales(load_as<uint2>(from + at), arguments.scale_type, scales);
    }
    if (arguments.scale_type == DType::f32) {
      UNROLL for (int i = 0; i < 2; ++i) {
        const float4 four = load_as<float4>(from + at * 4 + i * 16);
        scales[4 * i] = four.x, scales[4 * i + 1] = four.y, scales[4 * i + 2] = four.z, scales[4 * i + 3] = four.w;
      }
      return;
    }
    unpack_scales(load_as<uint4>(from + at * 2), arguments.scale_type, scales);
  }

  DEVICE void multiply_elements(Shared<const uint8_t> from, int step, Totals& totals) const {
    uint32_t x[token_blocks][2];
    load_x(from, step, x);
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      uint32_t a[4];
      ldmatrix<4>(a, from + ((weights_at ^ static_cast<uint32_t>(32 * step)) + tile * 16 * Shape::row_bytes));
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(totals.value[tile][i], a, x[i]);
    }
  }

  const GemmArguments& arguments;
  uint32_t x_at, weights_at;  // byte offsets of this lane's first reads of x and of the weights
  static constexpr int scale_blocks = Shape::kind == CodeKind::e2m1 ? 1 : max(Shape::steps / 2, 1);
  int entries[scale_blocks];  // its first scale and zero point, for every two k-blocks; entry_of()
};

}  // namespace billfish::BILLFISH_TARGET
