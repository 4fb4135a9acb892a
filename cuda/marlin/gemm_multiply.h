// From shared memory to registers, and the products of the GEMM: what one warp does with a stage.
#pragma once
#include <cstdint>

#include "marlin/dequantise.h"
#include "marlin/gemm_arguments.h"
#include "marlin/gemm_shape.h"
#include "marlin/layout.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/mma.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// A warp's sums so far: 64 outputs by 8 * token_blocks tokens, as C fragments of [16 outputs][8 tokens].
template <class Shape>
struct GemmTotals {
  float value[4][Shape::token_blocks][4];
};

// The warp's place in the block.
template <class Tile>
struct WarpPlace {
  DEVICE WarpPlace() {
    const auto warp = static_cast<int>(warp_index());
    token = warp % Tile::warps_tokens;
    output = warp / Tile::warps_tokens % Tile::warps_outputs;
    input = warp / (Tile::warps_tokens * Tile::warps_outputs);
  }
  int token, output, input;
};

template <class Shape>
class GemmMultiplier {
  using Element = typename Shape::Element;
  using Tile = typename Shape::Tile;
  using Totals = GemmTotals<Shape>;
  static constexpr int bits = Shape::bits, token_blocks = Shape::token_blocks;

 public:
  DEVICE explicit GemmMultiplier(const GemmArguments& given) : arguments(given) {
    const WarpPlace<Tile> warp;
    const auto lane = static_cast<int>(lane_index());
    const int first_k_block = warp.input * Shape::steps;  // of the stage
    // ldmatrix: lanes 0-7 address the rows of a first 8x8 matrix, 8-15 those of a second, ... For x the second is the
    // other half of k, third and fourth are the next eight tokens; for 16-bit weights the second is the next eight
    // outputs, third and fourth the other half of k.
    const int token = warp.token * 8 * token_blocks + lane / 16 * 8 * (token_blocks > 1) + lane % 8;
    x_at = settled<Shape>(swizzled_byte<Shape::row_bytes>(token, 2 * first_k_block + lane / 8 % 2));
    if constexpr (Shape::quantised) {
      const int first = warp.output * Shape::strip_bytes + first_k_block * Shape::k_block_bytes + lane * 16;
      weights_at = settled<Shape>(static_cast<uint32_t>(first));
      UNROLL for (int fold = 0; fold < folds; ++fold) {
        const int group = (first_k_block / 2 + fold) >> arguments.group_shift;
        entries[fold] = settled<Shape>(group * Tile::outputs + warp.output * strip_outputs + lane / 4 * 8);
      }
    } else {
      const int output = warp.output * strip_outputs + lane % 16;
      weights_at = settled<Shape>(swizzled_byte<Shape::row_bytes>(output, 2 * first_k_block + lane / 16));
    }
  }

  // Adds the stage's products.
  DEVICE void multiply(uint32_t stage, Totals& totals) const {
    const Shared<const uint8_t> from = shared_memory<uint8_t>(stage);
    if constexpr (Shape::quantised) {
      if (Shape::long_folds && arguments.group_shift >= 1) {
        multiply_folds<Shape::long_folds ? 4 : 2>(from, totals);
      } else {
        multiply_folds<2>(from, totals);
      }
    } else {
      UNROLL for (int step = 0; step < Shape::steps; ++step) multiply_elements(from, step, totals);
    }
  }

 private:
  // A k-block further on the chunk's number is 2 higher; as first_k_block is a multiple of the steps, the swizzled
  // place differs in the same bit.
  DEVICE static uint32_t at_step(uint32_t at, int step) { return at ^ static_cast<uint32_t>(32 * step); }

  // The B operands of 16 inputs by 8 * token_blocks tokens.
  DEVICE void load_x(Shared<const uint8_t> from, int step, uint32_t (&x)[token_blocks][2]) const {
    const Shared<const uint8_t> row = from + (Shape::x_place + at_step(x_at, step));
    if constexpr (token_blocks == 1) {
      ldmatrix<2>(x[0], row);
    } else {
      UNROLL for (int i = 0; i < token_blocks; i += 2) {
        uint32_t four[4];
        ldmatrix<4>(four, row + i * 8 * Shape::row_bytes);
        x[i][0] = four[0], x[i][1] = four[1], x[i + 1][0] = four[2], x[i + 1][1] = four[3];
      }
    }
  }

  // A fold: k-blocks of one group, whose products are summed before its scales multiply them.
  template <int fold_steps>
  DEVICE void multiply_folds(Shared<const uint8_t> from, Totals& totals) const {
    UNROLL for (int step = 0; step < Shape::steps; step += fold_steps) multiply_fold<fold_steps>(from, step, totals);
  }

  template <int fold_steps>
  DEVICE void multiply_fold(Shared<const uint8_t> from, int first_step, Totals& totals) const {
    uint32_t x[fold_steps][token_blocks][2];
    uint32_t codes[fold_steps][4][bits / 4];
    UNROLL for (int i = 0; i < fold_steps; ++i) {
      load_x(from, first_step + i, x[i]);
      load_codes(from + (weights_at + (first_step + i) * Shape::k_block_bytes), codes[i]);
    }
    const int entry = entries[first_step / 2];
    float scales[8];
    load_scales(from + Shape::scale_place, entry, scales);
    uint2 zeros = {};
    if constexpr (Shape::zero_points) zeros = load_as<uint2>(from + (Shape::zero_place(arguments.scale_bytes) + entry));

    using Codes = Dequantiser<Element, bits>;
    float central[token_blocks][4] = {};
    if constexpr (Shape::corrected && !Shape::zero_points && !Codes::centred) {
      correct(Codes::central_correction, x, central);
    }
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      float sums[token_blocks][4];
      UNROLL for (int i = 0; i < token_blocks; ++i) { UNROLL for (int j = 0; j < 4; ++j) sums[i][j] = central[i][j]; }
      ZeroPoints zero = Codes::centre;
      if constexpr (Shape::zero_points) {
        const uint32_t four = tile < 2 ? zeros.x : zeros.y;
        if constexpr (Shape::corrected) {
          correct(Codes::correction(four, tile % 2), x, sums);
        } else {
          zero = Codes::prepare(four, tile % 2);
        }
      }
      UNROLL for (int step = 0; step < fold_steps; ++step) {
        uint32_t a[4];
        if constexpr (Shape::corrected) {
          Codes::raw(codes[step][tile], a);
        } else {
          Codes::template convert<Shape::zero_points>(codes[step][tile], zero, a);
        }
        UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[i], a, x[step][i]);
      }
      UNROLL for (int i = 0; i < token_blocks; ++i) {
        UNROLL for (int j = 0; j < 4; ++j) {
          float& total = totals.value[tile][i][j];
          total = fused_multiply_add(scales[2 * tile + j / 2], sums[i][j], total);
        }
      }
    }
  }

  // Adds a number for each output times the sum of x.
  template <int fold_steps>
  DEVICE static void correct(ZeroPoints number, const uint32_t (&x)[fold_steps][token_blocks][2],
                             float (&sums)[token_blocks][4]) {
    const uint32_t a[4] = {number.lower, number.upper, number.lower, number.upper};
    UNROLL for (int step = 0; step < fold_steps; ++step) {
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[i], a, x[step][i]);
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

  // The eight scales from entry `at` on.
  DEVICE void load_scales(Shared<const uint8_t> from, int at, float (&scales)[8]) const {
    if (arguments.scale_type == DType::f32) {
      UNROLL for (int i = 0; i < 2; ++i) {
        const float4 four = load_as<float4>(from + at * 4 + i * 16);
        scales[4 * i] = four.x, scales[4 * i + 1] = four.y, scales[4 * i + 2] = four.z, scales[4 * i + 3] = four.w;
      }
      return;
    }
    const uint4 eight = load_as<uint4>(from + at * 2);
    const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
    UNROLL for (int i = 0; i < 4; ++i) {
      const float2 two = arguments.scale_type == DType::f16 ? to_float2(bit_cast<half2>(pairs[i]))
                                                            : to_float2(bit_cast<bfloat162>(pairs[i]));
      scales[2 * i] = two.x, scales[2 * i + 1] = two.y;
    }
  }

  DEVICE void multiply_elements(Shared<const uint8_t> from, int step, Totals& totals) const {
    uint32_t x[token_blocks][2];
    load_x(from, step, x);
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      uint32_t a[4];
      ldmatrix<4>(a, from + (at_step(weights_at, step) + tile * 16 * Shape::row_bytes));
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(totals.value[tile][i], a, x[i]);
    }
  }

  const GemmArguments& arguments;
  uint32_t x_at, weights_at;  // bytes: what this lane reads first, of x and of the weights
  static constexpr int folds = max(Shape::steps / 2, 1);
  int entries[folds];  // its first scale and zero point, for every two k-blocks
};

}  // namespace billfish::BILLFISH_TARGET
