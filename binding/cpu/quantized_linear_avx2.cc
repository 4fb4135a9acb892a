// Quantised linears with AVX2: vpmaddwd multiplies 16 pairs of 16-bit integers and adds them two by two. It cannot
// saturate (no activation code is -32768), as the 8-bit vpmaddubsw could, and needs no more instructions a product.
#if defined(__x86_64__)
#include <immintrin.h>

#include <utility>

#include "cpu/quantize_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {

// A tile's 16 outputs are two vectors of 8 lanes.
constexpr int halves = 2;

inline __m256i load_vector(const void* data) { return _mm256_loadu_si256(static_cast<const __m256i*>(data)); }
inline void store_vector(void* data, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(data), v); }

// Four vectors of 16-bit codes, two inputs in each 32-bit lane: of eight inputs of 8 outputs.
struct EightInputs {
  __m256i pair[4];
};

template <int Bits>
inline EightInputs load_eight(const uint8_t* codes) {
  EightInputs eight;
  if constexpr (Bits == 4) {
    const __m256i mask = _mm256_set1_epi16(0x000f);
    const __m256i packed = load_vector(codes);
    eight.pair[0] = _mm256_and_si256(packed, mask);
    eight.pair[1] = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
    eight.pair[2] = _mm256_and_si256(_mm256_srli_epi16(packed, 8), mask);
    eight.pair[3] = _mm256_srli_epi16(packed, 12);
  } else {
    const __m256i mask = _mm256_set1_epi16(0x00ff);
    const __m256i low = load_vector(codes), high = load_vector(codes + 64);
    eight.pair[0] = _mm256_and_si256(low, mask);
    eight.pair[1] = _mm256_and_si256(high, mask);
    eight.pair[2] = _mm256_srli_epi16(low, 8);
    eight.pair[3] = _mm256_srli_epi16(high, 8);
  }
  return eight;
}

// Two 16-bit activations in every lane.
inline __m256i broadcast_pair(const int16_t* codes) {
  return _mm256_set1_epi32(*reinterpret_cast<const int32_t __attribute__((may_alias))*>(codes));
}

inline __m256i add_products(__m256i sum, __m256i a, __m256i b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b));
}

// Scales and zeros of outputs half * 8 to half * 8 + 7 of a tile.
inline __m256 load_scales(const PackedWeights& weights, int64_t tile, int half, int64_t group) {
  const int64_t entry = (tile * weights.groups + group) * tile_outputs + half * 8;
  if (weights.scale_type == DType::f32) return _mm256_loadu_ps(static_cast<const float*>(weights.scales) + entry);
  const __m128i bits =
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const uint16_t*>(weights.scales) + entry));
  if (weights.scale_type == DType::f16) return _mm256_cvtph_ps(bits);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
}

inline __m256i load_zeros(const PackedWeights& weights, int64_t tile, int half, int64_t group) {
  if (weights.zeros == nullptr) return _mm256_set1_epi32(1 << (weights.bits - 1));
  const uint8_t* const zeros = weights.zeros + (tile * weights.groups + group) * tile_outputs + half * 8;
  return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(zeros)));
}

inline const uint8_t* tile_codes(const PackedWeights& weights, int64_t tile, int64_t first) {
  return weights.codes + (tile * weights.padded_in + first) * tile_outputs * weights.bits / 8;
}

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// Sums are arrays that only constants index (I..., by fold expressions), and this tells the compiler to leave each in
// its register from one step to the next: GCC otherwise stores them all at every step.
__attribute__((always_inline)) inline void keep_in_register(__m256i& sum) { asm("" : "+x"(sum)); }

template <int Bits, int Rows>
void gemv_rows(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  constexpr int64_t eight_bytes = 8 * tile_outputs * Bits / 8;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    __m256 sums[Rows][halves];
    for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][1] = _mm256_setzero_ps();

    for_each_segment(weights.in, weights.group_size, [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
      const int64_t padded = (count + 7) / 8 * 8;
      const int16_t* const x_codes = x.codes + first * x.rows + first_row * padded;
      const uint8_t* codes = tile_codes(weights, tile, first);
      __m256i totals[Rows][halves];
      for (int r = 0; r < Rows; ++r) totals[r][0] = totals[r][1] = _mm256_setzero_si256();
      for (int64_t k = 0; k < padded; k += 8, codes += eight_bytes) {
        for (int64_t line = 0; line < eight_bytes; line += 64) _mm_prefetch(codes + fetch_ahead + line, _MM_HINT_T0);
        for (int half = 0; half < halves; ++half) {
          const EightInputs eight = load_eight<Bits>(codes + half * 32);
          for (int r = 0; r < Rows; ++r) {
            const int16_t* const row = x_codes + r * padded + k;
            for (int pair = 0; pair < 4; ++pair) {
              totals[r][half] = add_products(totals[r][half], eight.pair[pair], broadcast_pair(row + 2 * pair));
            }
          }
        }
      }
      for (int half = 0; half < halves; ++half) {
        const __m256 scales = load_scales(weights, tile, half, group);
        const __m256i zeros = load_zeros(weights, tile, half, group);
        for (int r = 0; r < Rows; ++r) {
          const int64_t entry = segment * x.rows + first_row + r;
          const __m256i correction = _mm256_mullo_epi32(zeros, _mm256_set1_epi32(x.sums[entry]));
          const __m256 total = _mm256_cvtepi32_ps(_mm256_sub_epi32(totals[r][half], correction));
          sums[r][half] = _mm256_fmadd_ps(total, _mm256_mul_ps(scales, _mm256_set1_ps(x.scales[entry])), sums[r][half]);
        }
      }
    });

    const int64_t first_output = tile * tile_outputs, lanes = smaller(tile_outputs, weights.out - first_output);
    for (int r = 0; r < Rows; ++r) {
      float values[tile_outputs];
      for (int half = 0; half < halves; ++half) {
        const __m256 bias =
            weights.bias != nullptr ? _mm256_loadu_ps(weights.bias + first_output + half * 8) : _mm256_setzero_ps();
        _mm256_storeu_ps(values + half * 8, _mm256_add_ps(sums[r][half], bias));
      }
      for (int64_t lane = 0; lane < lanes; ++lane) out[r * stride + first_output + lane] = values[lane];
    }
  }
}

template <int Bits>
void gemv_bits(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  switch (rows) {
    case 1:
      return gemv_rows<Bits, 1>(weights, x, first_row, first_tile, last_tile, out, stride);
    case 2:
      return gemv_rows<Bits, 2>(weights, x, first_row, first_tile, last_tile, out, stride);
    case 3:
      return gemv_rows<Bits, 3>(weights, x, first_row, first_tile, last_tile, out, stride);
    default:
      return gemv_rows<Bits, 4>(weights, x, first_row, first_tile, last_tile, out, stride);
  }
}

void gemv(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int rows, int64_t first_tile,
          int64_t last_tile, float* out, int64_t stride) {
  const auto run = weights.bits == 4 ? gemv_bits<4> : gemv_bits<8>;
  run(weights, x, first_row, rows, first_tile, last_tile, out, stride);
}

inline int64_t tiles_of_panel(const PackedWeights& weights, int64_t first_tile) {
  return smaller(panel_tiles, (weights.out + tile_outputs - 1) / tile_outputs - first_tile);
}

template <int Bits>
void unpack_bits(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  constexpr int64_t eight_bytes = 8 * tile_outputs * Bits / 8;
  const int64_t group = first / weights.group_size;
  const int64_t tiles = tiles_of_panel(weights, first_tile);
  for (int64_t t = 0; t < tiles; ++t) {
    for (int half = 0; half < halves; ++half) {
      const __m256i zeros = load_zeros(weights, first_tile + t, half, group);
      const __m256i zero_pairs = _mm256_or_si256(zeros, _mm256_slli_epi32(zeros, 16));
      const uint8_t* codes = tile_codes(weights, first_tile + t, first) + half * 32;
      int16_t* to = panel + (t * tile_outputs + half * 8) * 2;
      for (int64_t k = 0; k < count; k += 8, codes += eight_bytes) {
        const EightInputs eight = load_eight<Bits>(codes);
        for (int pair = 0; pair < 4; ++pair, to += panel_outputs * 2) {
          store_vector(to, _mm256_sub_epi16(eight.pair[pair], zero_pairs));
        }
      }
    }
  }
}

void unpack_integers(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  const auto run = weights.bits == 4 ? unpack_bits<4> : unpack_bits<8>;
  run(weights, first_tile, first, count, panel);
}

void unpack_scales(const PackedWeights& weights, int64_t first_tile, int64_t group, float* scales) {
  const int64_t tiles = tiles_of_panel(weights, first_tile);
  for (int64_t t = 0; t < tiles; ++t) {
    for (int half = 0; half < halves; ++half) {
      _mm256_storeu_ps(scales + t * tile_outputs + half * 8, load_scales(weights, first_tile + t, half, group));
    }
  }
}

// Four rows by 16 outputs: 8 sums, 2 vectors of weights, a broadcast pair and its products fit the 16 registers.
constexpr int micro_rows = 4;

// I counts the sums: I / halves is the row, I % halves the half of the 16 outputs.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const int16_t* panel, const float* scales, int64_t count,
                   const int16_t* codes, const float* x_scales, float* sums) {
  __m256i totals[sizeof...(I)];
  ((totals[I] = _mm256_setzero_si256()), ...);
  for (int64_t k = 0; k < count; k += 2, panel += panel_outputs * 2) {
    ((totals[I] = add_products(totals[I], load_vector(panel + I % halves * tile_outputs),
                               broadcast_pair(codes + I / halves * count + k))),
     ...);
    (keep_in_register(totals[I]), ...);
  }
  const auto add = [](float* sum, __m256i total, const float* scale, float x_scale) {
    const __m256 factor = _mm256_mul_ps(_mm256_loadu_ps(scale), _mm256_set1_ps(x_scale));
    _mm256_storeu_ps(sum, _mm256_fmadd_ps(_mm256_cvtepi32_ps(total), factor, _mm256_loadu_ps(sum)));
  };
  (add(sums + I / halves * panel_outputs + I % halves * 8, totals[I], scales + I % halves * 8, x_scales[I / halves]),
   ...);
}

template <int Rows>
void multiply_rows(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                   const float* x_scales, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * halves>{}, panel, scales, count, codes, x_scales, sums);
}

void multiply_integers(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                       const float* x_scales, int64_t rows, float* sums) {
  using Multiply = void (*)(const int16_t*, const float*, int64_t, const int16_t*, const float*, float*);
  constexpr Multiply multiply_of[micro_rows + 1] = {nullptr, multiply_rows<1>, multiply_rows<2>, multiply_rows<3>,
                                                    multiply_rows<4>};
  for (int64_t n = 0; n < panel_outputs; n += tile_outputs) {
    for (int64_t row = 0; row < rows; row += micro_rows) {
      multiply_of[smaller(micro_rows, rows - row)](panel + n * 2, scales + n, count, codes + row * count,
                                                   x_scales + row, sums + row * panel_outputs + n);
    }
  }
}

// Bits that a lane is shifted by for input j of the eight (4 bits: of one lane; 8 bits: of lane j / 4).
template <int Bits>
constexpr int code_shift(int j) {
  return Bits == 8 ? j % 4 * 8 : j % 4 * 8 + j / 4 * 4;
}

template <int Bits>
void dequantize_bits(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  constexpr int64_t eight_bytes = 8 * tile_outputs * Bits / 8;
  const __m256i mask = _mm256_set1_epi32((1 << Bits) - 1);
  const int64_t group = first / weights.group_size;
  const int64_t tiles = tiles_of_panel(weights, first_tile);
  for (int64_t t = 0; t < tiles; ++t) {
    for (int half = 0; half < halves; ++half) {
      const __m256i zeros = load_zeros(weights, first_tile + t, half, group);
      const __m256 scales = load_scales(weights, first_tile + t, half, group);
      const uint8_t* codes = tile_codes(weights, first_tile + t, first) + half * 32;
      float* to = panel + t * tile_outputs + half * 8;
      for (int64_t k = 0; k < count; k += 8, codes += eight_bytes) {
        for (int j = 0; j < 8; ++j, to += panel_outputs) {
          const __m256i packed = load_vector(codes + (Bits == 8 ? j / 4 * 64 : 0));
          const __m256i code = _mm256_and_si256(_mm256_srl_epi32(packed, _mm_cvtsi32_si128(code_shift<Bits>(j))), mask);
          _mm256_storeu_ps(to, _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(code, zeros)), scales));
        }
      }
    }
  }
}

void dequantize(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const auto run = weights.bits == 4 ? dequantize_bits<4> : dequantize_bits<8>;
  run(weights, first_tile, first, count, panel);
}

}  // namespace

const QuantizedLinearKernels quantized_linear_avx2 = {quantize_segment_avx2, gemv,      unpack_integers, unpack_scales,
                                                      multiply_integers,     dequantize};

}  // namespace billfish::cpu
#endif
