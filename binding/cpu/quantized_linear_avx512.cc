// Quantised linears with AVX-512 and VNNI: vpdpwssd multiplies 32 pairs of 16-bit integers and adds them, two by two,
// to 16 sums of 32 bits. Sixteen bits of activation cost as much that way as two passes of the 8-bit vpdpbusd would.
#if defined(__x86_64__)
#include <immintrin.h>

#include <utility>

#include "cpu/quantize_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {

// Four vectors of 16-bit codes, two inputs in each 32-bit lane: of eight inputs of 16 outputs.
struct EightInputs {
  __m512i pair[4];
};

template <int Bits>
inline EightInputs load_eight(const uint8_t* codes) {
  EightInputs eight;
  if constexpr (Bits == 4) {
    const __m512i mask = _mm512_set1_epi16(0x000f);
    const __m512i packed = _mm512_load_si512(codes);
    eight.pair[0] = _mm512_and_si512(packed, mask);
    eight.pair[1] = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
    eight.pair[2] = _mm512_and_si512(_mm512_srli_epi16(packed, 8), mask);
    eight.pair[3] = _mm512_srli_epi16(packed, 12);
  } else {
    const __m512i mask = _mm512_set1_epi16(0x00ff);
    const __m512i low = _mm512_load_si512(codes), high = _mm512_load_si512(codes + 64);
    eight.pair[0] = _mm512_and_si512(low, mask);
    eight.pair[1] = _mm512_and_si512(high, mask);
    eight.pair[2] = _mm512_srli_epi16(low, 8);
    eight.pair[3] = _mm512_srli_epi16(high, 8);
  }
  return eight;
}

// Two 16-bit activations in every lane.
inline __m512i broadcast_pair(const int16_t* codes) {
  return _mm512_set1_epi32(*reinterpret_cast<const int32_t __attribute__((may_alias))*>(codes));
}

inline __m512 load_scales(const PackedWeights& weights, int64_t tile, int64_t group) {
  const int64_t entry = (tile * weights.groups + group) * tile_outputs;
  if (weights.scale_type == DType::f32) return _mm512_loadu_ps(static_cast<const float*>(weights.scales) + entry);
  const __m256i half =
      _mm256_loadu_si256(reinterpret_cast<const __m256i*>(static_cast<const uint16_t*>(weights.scales) + entry));
  if (weights.scale_type == DType::f16) return _mm512_cvtph_ps(half);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

inline __m512i load_zeros(const PackedWeights& weights, int64_t tile, int64_t group) {
  if (weights.zeros == nullptr) return _mm512_set1_epi32(1 << (weights.bits - 1));
  const uint8_t* const zeros = weights.zeros + (tile * weights.groups + group) * tile_outputs;
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(zeros)));
}

inline const uint8_t* tile_codes(const PackedWeights& weights, int64_t tile, int64_t first) {
  return weights.codes + (tile * weights.padded_in + first) * tile_outputs * weights.bits / 8;
}

// Sums are arrays that only constants index (I..., by fold expressions), and this tells the compiler to leave each in
// its register from one step to the next: GCC otherwise stores them all at every step, at a third of the speed.
__attribute__((always_inline)) inline void keep_in_register(__m512i& sum) { asm("" : "+v"(sum)); }

// Two chains of sums a row, so that the latency of one dot product hides behind the other: sums[2 * row + chain], and
// I counts them.
template <int Bits, int... I>
void gemv_rows(std::integer_sequence<int, I...>, const PackedWeights& weights, const QuantizedActivations& x,
               int64_t first_row, int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  constexpr int rows = sizeof...(I) / 2;
  constexpr int64_t eight_bytes = 8 * tile_outputs * Bits / 8;
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    const uint8_t* codes = tile_codes(weights, tile, 0);
    __m512 sums[rows];
    for (int r = 0; r < rows; ++r) sums[r] = _mm512_setzero_ps();

    for_each_segment(weights.in, weights.group_size, [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
      const int64_t padded = (count + 7) / 8 * 8;
      const int16_t* const x_codes = x.codes + first * x.rows + first_row * padded;
      __m512i totals[2 * rows];
      ((totals[I] = _mm512_setzero_si512()), ...);
      for (int64_t k = 0; k < padded; k += 8, codes += eight_bytes) {
        for (int64_t line = 0; line < eight_bytes; line += 64) _mm_prefetch(codes + fetch_ahead + line, _MM_HINT_T0);
        const EightInputs eight = load_eight<Bits>(codes);
        const int16_t* const at = x_codes + k;
        ((totals[I] =
              _mm512_dpwssd_epi32(totals[I], eight.pair[I % 2], broadcast_pair(at + I / 2 * padded + I % 2 * 2))),
         ...);
        ((totals[I] = _mm512_dpwssd_epi32(totals[I], eight.pair[2 + I % 2],
                                          broadcast_pair(at + I / 2 * padded + I % 2 * 2 + 4))),
         ...);
        (keep_in_register(totals[I]), ...);
      }
      const __m512 scales = load_scales(weights, tile, group);
      const __m512i zeros = load_zeros(weights, tile, group);
      for (int r = 0; r < rows; ++r) {
        const int64_t entry = segment * x.rows + first_row + r;
        const __m512i correction = _mm512_mullo_epi32(zeros, _mm512_set1_epi32(x.sums[entry]));
        const __m512i total = _mm512_sub_epi32(_mm512_add_epi32(totals[2 * r], totals[2 * r + 1]), correction);
        sums[r] =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(scales, _mm512_set1_ps(x.scales[entry])), sums[r]);
      }
    });

    const int64_t left = weights.out - tile * tile_outputs;
    const __mmask16 lanes = static_cast<__mmask16>(left >= tile_outputs ? 0xffffu : (1u << left) - 1u);
    const __m512 bias =
        weights.bias != nullptr ? _mm512_loadu_ps(weights.bias + tile * tile_outputs) : _mm512_setzero_ps();
    for (int r = 0; r < rows; ++r) {
      _mm512_mask_storeu_ps(out + r * stride + tile * tile_outputs, lanes, _mm512_add_ps(sums[r], bias));
    }
  }
}

template <int Bits>
void gemv_bits(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  switch (rows) {
    case 1:
      return gemv_rows<Bits>(std::make_integer_sequence<int, 2>{}, weights, x, first_row, first_tile, last_tile, out,
                             stride);
    case 2:
      return gemv_rows<Bits>(std::make_integer_sequence<int, 4>{}, weights, x, first_row, first_tile, last_tile, out,
                             stride);
    case 3:
      return gemv_rows<Bits>(std::make_integer_sequence<int, 6>{}, weights, x, first_row, first_tile, last_tile, out,
                             stride);
    default:
      return gemv_rows<Bits>(std::make_integer_sequence<int, 8>{}, weights, x, first_row, first_tile, last_tile, out,
                             stride);
  }
}

void gemv(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int rows, int64_t first_tile,
          int64_t last_tile, float* out, int64_t stride) {
  const auto run = weights.bits == 4 ? gemv_bits<4> : gemv_bits<8>;
  run(weights, x, first_row, rows, first_tile, last_tile, out, stride);
}

inline int64_t tiles_of_panel(const PackedWeights& weights, int64_t first_tile) {
  const int64_t tiles = (weights.out + tile_outputs - 1) / tile_outputs - first_tile;
  return tiles < panel_tiles ? tiles : panel_tiles;
}

template <int Bits>
void unpack_bits(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  constexpr int64_t eight_bytes = 8 * tile_outputs * Bits / 8;
  const int64_t group = first / weights.group_size;
  const int64_t tiles = tiles_of_panel(weights, first_tile);
  const int64_t ahead = count / 8 * eight_bytes;
  for (int64_t t = 0; t < tiles; ++t) {
    const __m512i zeros = load_zeros(weights, first_tile + t, group);
    const __m512i zero_pairs = _mm512_or_si512(zeros, _mm512_slli_epi32(zeros, 16));
    const uint8_t* codes = tile_codes(weights, first_tile + t, first);
    int16_t* to = panel + t * tile_outputs * 2;
    for (int64_t k = 0; k < count; k += 8, codes += eight_bytes) {
      // The codes that the next call wants arrive while this panel is multiplied.
      for (int64_t line = 0; line < eight_bytes; line += 64) _mm_prefetch(codes + ahead + line, _MM_HINT_T0);
      const EightInputs eight = load_eight<Bits>(codes);
      for (int pair = 0; pair < 4; ++pair, to += panel_outputs * 2) {
        _mm512_store_si512(to, _mm512_sub_epi16(eight.pair[pair], zero_pairs));
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
    _mm512_store_ps(scales + t * tile_outputs, load_scales(weights, first_tile + t, group));
  }
}

// Six rows by 64 outputs: 24 sums, 4 vectors of weights and a broadcast pair fill the 32 registers.
constexpr int micro_rows = 6;

// I counts the sums: I / panel_tiles is the row, I % panel_tiles the tile.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const int16_t* panel, const float* scales, int64_t count,
                   const int16_t* codes, const float* x_scales, float* sums) {
  __m512i totals[sizeof...(I)];
  ((totals[I] = _mm512_setzero_si512()), ...);
  for (int64_t k = 0; k < count; k += 2, panel += panel_outputs * 2) {
    ((totals[I] = _mm512_dpwssd_epi32(totals[I], _mm512_load_si512(panel + I % panel_tiles * tile_outputs * 2),
                                      broadcast_pair(codes + I / panel_tiles * count + k))),
     ...);
    (keep_in_register(totals[I]), ...);
  }
  const auto add = [](float* sum, __m512i total, const float* scale, float x_scale) {
    const __m512 factor = _mm512_mul_ps(_mm512_load_ps(scale), _mm512_set1_ps(x_scale));
    _mm512_store_ps(sum, _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), factor, _mm512_load_ps(sum)));
  };
  (add(sums + I * tile_outputs, totals[I], scales + I % panel_tiles * tile_outputs, x_scales[I / panel_tiles]), ...);
}

template <int Rows>
void multiply_rows(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                   const float* x_scales, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * panel_tiles>{}, panel, scales, count, codes, x_scales, sums);
}

void multiply_integers(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                       const float* x_scales, int64_t rows, float* sums) {
  using Multiply = void (*)(const int16_t*, const float*, int64_t, const int16_t*, const float*, float*);
  constexpr Multiply last_rows[micro_rows] = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                              multiply_rows<3>, multiply_rows<4>, multiply_rows<5>};
  int64_t row = 0;
  for (; row + micro_rows <= rows; row += micro_rows) {
    multiply_rows<micro_rows>(panel, scales, count, codes + row * count, x_scales + row, sums + row * panel_outputs);
  }
  if (row < rows) {
    last_rows[rows - row](panel, scales, count, codes + row * count, x_scales + row, sums + row * panel_outputs);
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
  const __m512i mask = _mm512_set1_epi32((1 << Bits) - 1);
  const int64_t group = first / weights.group_size;
  const int64_t tiles = tiles_of_panel(weights, first_tile);
  for (int64_t t = 0; t < tiles; ++t) {
    const __m512i zeros = load_zeros(weights, first_tile + t, group);
    const __m512 scales = load_scales(weights, first_tile + t, group);
    const uint8_t* codes = tile_codes(weights, first_tile + t, first);
    float* to = panel + t * tile_outputs;
    for (int64_t k = 0; k < count; k += 8, codes += eight_bytes) {
      for (int j = 0; j < 8; ++j, to += panel_outputs) {
        const __m512i packed = _mm512_load_si512(codes + (Bits == 8 ? j / 4 * 64 : 0));
        const __m512i code = _mm512_and_si512(_mm512_srl_epi32(packed, _mm_cvtsi32_si128(code_shift<Bits>(j))), mask);
        const __m512 value = _mm512_cvtepi32_ps(_mm512_sub_epi32(code, zeros));
        _mm512_store_ps(to, _mm512_mul_ps(value, scales));
      }
    }
  }
}

void dequantize(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const auto run = weights.bits == 4 ? dequantize_bits<4> : dequantize_bits<8>;
  run(weights, first_tile, first, count, panel);
}

}  // namespace

const QuantizedLinearKernels quantized_linear_avx512 = {
    quantize_segment_avx512, gemv, unpack_integers, unpack_scales, multiply_integers, dequantize};

}  // namespace billfish::cpu
#endif
