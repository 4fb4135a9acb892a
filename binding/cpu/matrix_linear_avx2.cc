// Unquantised linears with AVX2, in fp32.
#if defined(__x86_64__)
#include <immintrin.h>

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

// Rows rows of x times Outputs consecutive weight rows, each sum in `chains` times 8 lanes.
template <DType Type, int Rows, int Outputs>
void dot(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t first_output, float* out,
         int64_t stride) {
  constexpr int chains = Rows * Outputs >= 4 ? 2 : 4;
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  const int64_t row_bytes = weights.in * element_bytes;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + first_output * row_bytes;
  __m256 sums[chains][Rows][Outputs];
  for (int c = 0; c < chains; ++c) {
    for (int r = 0; r < Rows; ++r) {
      for (int n = 0; n < Outputs; ++n) sums[c][r][n] = _mm256_setzero_ps();
    }
  }
  int64_t k = 0;
  for (; k + 8 * chains <= weights.in; k += 8 * chains) {
    for (int c = 0; c < chains; ++c) {
      const int64_t at = k + 8 * c;
      __m256 w[Outputs];
      for (int n = 0; n < Outputs; ++n) w[n] = load<Type>(data + n * row_bytes + at * element_bytes);
      for (int r = 0; r < Rows; ++r) {
        const __m256 value = _mm256_loadu_ps(x + r * x_stride + at);
        for (int n = 0; n < Outputs; ++n) sums[c][r][n] = _mm256_fmadd_ps(value, w[n], sums[c][r][n]);
      }
    }
  }
  for (; k < weights.in; k += 8) {
    for (int n = 0; n < Outputs; ++n) {
      const __m256 w = load<Type>(data + n * row_bytes + k * element_bytes, weights.in - k);
      for (int r = 0; r < Rows; ++r) {
        const uint8_t* const values = reinterpret_cast<const uint8_t*>(x + r * x_stride + k);
        sums[0][r][n] = _mm256_fmadd_ps(load<DType::f32>(values, weights.in - k), w, sums[0][r][n]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int n = 0; n < Outputs; ++n) {
      __m256 sum = sums[0][r][n];
      for (int c = 1; c < chains; ++c) sum = _mm256_add_ps(sum, sums[c][r][n]);
      const float bias = weights.bias != nullptr ? weights.bias[first_output + n] : 0.0f;
      out[r * stride + first_output + n] = sum_of_lanes(sum) + bias;
    }
  }
}

template <DType Type, int Rows>
void gemv_rows(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t first_output,
               int64_t last_output, float* out, int64_t stride) {
  constexpr int outputs = Rows > 2 ? 1 : 2;
  int64_t n = first_output;
  for (; n + outputs <= last_output; n += outputs) dot<Type, Rows, outputs>(weights, x, x_stride, n, out, stride);
  for (; n < last_output; ++n) dot<Type, Rows, 1>(weights, x, x_stride, n, out, stride);
}

template <DType Type>
void gemv_typed(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t rows, int64_t first_output,
                int64_t last_output, float* out, int64_t stride) {
  using Gemv = void (*)(const MatrixWeights&, const float*, int64_t, int64_t, int64_t, float*, int64_t);
  constexpr Gemv gemv_of[5] = {nullptr, gemv_rows<Type, 1>, gemv_rows<Type, 2>, gemv_rows<Type, 3>, gemv_rows<Type, 4>};
  for (int64_t row = 0; row < rows; row += max_gemv_rows) {
    gemv_of[smaller(max_gemv_rows, rows - row)](weights, x + row * x_stride, x_stride, first_output, last_output,
                                                out + row * stride, stride);
  }
}

void gemv(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t rows, int64_t first_output,
          int64_t last_output, float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, x_stride, rows, first_output, last_output, out, stride);
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

template <int Rows>
void multiply_rows(const float* panel, int64_t count, const float* x, int64_t stride, float* sums) {
  __m256 totals[Rows][2];
  for (int r = 0; r < Rows; ++r) totals[r][0] = totals[r][1] = _mm256_setzero_ps();
  for (int64_t k = 0; k < count; ++k, panel += panel_outputs) {
    const __m256 low = _mm256_loadu_ps(panel), high = _mm256_loadu_ps(panel + 8);
    for (int r = 0; r < Rows; ++r) {
      const __m256 value = _mm256_broadcast_ss(x + r * stride + k);
      totals[r][0] = _mm256_fmadd_ps(value, low, totals[r][0]);
      totals[r][1] = _mm256_fmadd_ps(value, high, totals[r][1]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int half = 0; half < 2; ++half) {
      float* const sum = sums + r * panel_outputs + half * 8;
      _mm256_storeu_ps(sum, _mm256_add_ps(totals[r][half], _mm256_loadu_ps(sum)));
    }
  }
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t stride, int64_t rows, float* sums) {
  using Multiply = void (*)(const float*, int64_t, const float*, int64_t, float*);
  constexpr Multiply multiply_of[micro_rows + 1] = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                                    multiply_rows<3>, multiply_rows<4>, multiply_rows<5>,
                                                    multiply_rows<6>};
  for (int64_t n = 0; n < panel_outputs; n += tile_outputs) {
    for (int64_t row = 0; row < rows; row += micro_rows) {
      multiply_of[smaller(micro_rows, rows - row)](panel + n, count, x + row * stride, stride,
                                                   sums + row * panel_outputs + n);
    }
  }
}

}  // namespace

const MatrixKernels matrix_avx2 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
