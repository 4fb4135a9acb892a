// Unquantised linears with AVX2, in fp32.
#if defined(__x86_64__)
#include <immintrin.h>

#include <utility>

#include "cpu/linear_kernels.h"

namespace billfish::cpu {
namespace {

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <DType Type>
inline __m256 load(const uint8_t* data) {
  if constexpr (Type == DType::f32) {
    return _mm256_loadu_ps(reinterpret_cast<const float*>(data));
  } else {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(data));
    if constexpr (Type == DType::f16) return _mm256_cvtph_ps(half);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
}

// The first `count` elements; the other lanes are zero, and their memory is not touched.
template <DType Type>
inline __m256 load(const uint8_t* data, int64_t count) {
  if (count >= 8) return load<Type>(data);
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  uint8_t bytes[8 * element_bytes] = {};
  for (int64_t i = 0; i < count * element_bytes; ++i) bytes[i] = data[i];
  return load<Type>(bytes);
}

inline float sum_of_lanes(__m256 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

// Sums are arrays that only constants index (I..., by fold expressions), and this tells the compiler to leave each in
// its register from one step to the next: GCC otherwise stores them all at every step.
__attribute__((always_inline)) inline void keep_in_register(__m256& sum) { asm("" : "+x"(sum)); }

// Weight row n times rows first_row, first_row + 1, ... of x, in Chains sums of 8 lanes each, so that few rows still
// hide the latency of the multiply-add: I / Chains is the row, I % Chains the sum.
template <DType Type, int Chains, int... I>
void dot(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t n, const float* x, int64_t x_rows,
         int64_t first_row, float* out, int64_t stride) {
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  constexpr int rows = sizeof...(I) / Chains;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes;
  __m256 sums[sizeof...(I)];
  ((sums[I] = _mm256_setzero_ps()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t count = smaller(segment_inputs, weights.in - first);
    const float* const segment = x + first * x_rows + first_row * count;
    const uint8_t* const w = data + first * element_bytes;
    int64_t k = 0;
    for (; k + 8 * Chains <= count; k += 8 * Chains) {
      ((sums[I] = _mm256_fmadd_ps(_mm256_loadu_ps(segment + I / Chains * count + k + I % Chains * 8),
                                  load<Type>(w + (k + I % Chains * 8) * element_bytes), sums[I])),
       ...);
      (keep_in_register(sums[I]), ...);
      for (int64_t at = 0; at < 8 * Chains * element_bytes; at += 64) {
        _mm_prefetch(w + k * element_bytes + fetch_ahead + at, _MM_HINT_T0);
      }
    }
    for (; k < count; k += 8) {
      const __m256 weight = load<Type>(w + k * element_bytes, count - k);
      for (int r = 0; r < rows; ++r) {
        const uint8_t* const values = reinterpret_cast<const uint8_t*>(segment + r * count + k);
        sums[r * Chains] = _mm256_fmadd_ps(load<DType::f32>(values, count - k), weight, sums[r * Chains]);
      }
    }
  }
  const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
  for (int r = 0; r < rows; ++r) {
    __m256 sum = sums[r * Chains];
    for (int c = 1; c < Chains; ++c) sum = _mm256_add_ps(sum, sums[r * Chains + c]);
    out[(first_row + r) * stride + n] = sum_of_lanes(sum) + bias;
  }
}

template <DType Type, int Rows, int Chains>
void dot_rows(const MatrixWeights& weights, int64_t n, const float* x, int64_t x_rows, int64_t first_row, float* out,
              int64_t stride) {
  dot<Type, Chains>(std::make_integer_sequence<int, Rows * Chains>{}, weights, n, x, x_rows, first_row, out, stride);
}

template <DType Type>
void gemv_typed(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  using Dot = void (*)(const MatrixWeights&, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  constexpr Dot dot_of[] = {nullptr, dot_rows<Type, 1, 8>, dot_rows<Type, 2, 4>, dot_rows<Type, 3, 2>,
                            dot_rows<Type, 4, 2>};
  constexpr int64_t rows_at_once = 4;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      dot_of[smaller(rows_at_once, rows - row)](weights, n, x, rows, row, out, stride);
    }
  }
}

void gemv(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
          float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, rows, first_output, last_output, out, stride);
}

// Eight vectors as the rows of a square, transposed: lanes are exchanged in pairs, fours and eights.
inline void transpose_square(__m256 v[8]) {
  __m256 t[8];
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
  // v[4 a + b] now holds, in its 128-bit half h, rows 4a to 4a+3 of column 4h + b.
  for (int b = 0; b < 4; ++b) {
    t[b] = _mm256_permute2f128_ps(v[b], v[4 + b], 0x20);
    t[4 + b] = _mm256_permute2f128_ps(v[b], v[4 + b], 0x31);
  }
  for (int i = 0; i < 8; ++i) v[i] = t[i];
}

template <DType Type>
void transpose_typed(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data);
  for (int64_t n = 0; n < panel_outputs; n += 8) {
    const int64_t outputs = weights.out - first_output - n;
    if (outputs <= 0) return;
    for (int64_t k = 0; k < count; k += 8) {
      __m256 square[8];
      for (int i = 0; i < 8; ++i) {
        const int64_t element = (first_output + n + i) * weights.in + first + k;
        square[i] = i < outputs ? load<Type>(data + element * element_bytes, count - k) : _mm256_setzero_ps();
      }
      transpose_square(square);
      for (int i = 0; i < 8; ++i) _mm256_storeu_ps(panel + (k + i) * panel_outputs + n, square[i]);
    }
  }
}

void transpose(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  const auto run = weights.type == DType::f32   ? transpose_typed<DType::f32>
                   : weights.type == DType::f16 ? transpose_typed<DType::f16>
                                                : transpose_typed<DType::bf16>;
  run(weights, first_output, first, count, panel);
}

// Six rows by 16 outputs: 12 sums, 2 vectors of weights and a broadcast value fit the 16 registers.
constexpr int micro_rows = 6;

// I counts the sums: I / 2 is the row, I % 2 the half of the 16 outputs.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const float* panel, int64_t count, const float* x, float* sums) {
  __m256 totals[sizeof...(I)];
  ((totals[I] = _mm256_setzero_ps()), ...);
  for (int64_t k = 0; k < count; ++k, panel += panel_outputs) {
    ((totals[I] =
          _mm256_fmadd_ps(_mm256_broadcast_ss(x + I / 2 * count + k), _mm256_loadu_ps(panel + I % 2 * 8), totals[I])),
     ...);
    (keep_in_register(totals[I]), ...);
  }
  const auto add = [](float* sum, __m256 total) { _mm256_storeu_ps(sum, _mm256_add_ps(total, _mm256_loadu_ps(sum))); };
  (add(sums + I / 2 * panel_outputs + I % 2 * 8, totals[I]), ...);
}

template <int Rows>
void multiply_rows(const float* panel, int64_t count, const float* x, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * 2>{}, panel, count, x, sums);
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t rows, float* sums) {
  using Multiply = void (*)(const float*, int64_t, const float*, float*);
  constexpr Multiply multiply_of[micro_rows + 1] = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                                    multiply_rows<3>, multiply_rows<4>, multiply_rows<5>,
                                                    multiply_rows<6>};
  for (int64_t n = 0; n < panel_outputs; n += tile_outputs) {
    for (int64_t row = 0; row < rows; row += micro_rows) {
      multiply_of[smaller(micro_rows, rows - row)](panel + n, count, x + row * count, sums + row * panel_outputs + n);
    }
  }
}

}  // namespace

const MatrixKernels matrix_avx2 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
