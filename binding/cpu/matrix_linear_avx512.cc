// Unquantised linears with AVX-512, in fp32.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/linear_kernels.h"

namespace billfish::cpu {
namespace {

template <DType Type>
inline __m512 load(const uint8_t* data) {
  if constexpr (Type == DType::f32) {
    return _mm512_loadu_ps(data);
  } else {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(data));
    if constexpr (Type == DType::f16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

// The lanes of `mask`; the others are zero, and their memory is not touched.
template <DType Type>
inline __m512 load(__mmask16 mask, const uint8_t* data) {
  if constexpr (Type == DType::f32) {
    return _mm512_maskz_loadu_ps(mask, data);
  } else {
    const __m256i half = _mm256_maskz_loadu_epi16(mask, data);
    if constexpr (Type == DType::f16) return _mm512_cvtph_ps(half);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
}

inline __mmask16 lanes_below(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u);
}

// Rows rows of x times Outputs consecutive weight rows, each sum in 16 lanes (and twice that where few sums would not
// hide the latency of the multiply-add).
template <DType Type, int Rows, int Outputs>
void dot(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t first_output, float* out,
         int64_t stride) {
  constexpr int chains = Rows * Outputs >= 8 ? 1 : Rows * Outputs >= 4 ? 2 : 4;
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  const int64_t row_bytes = weights.in * element_bytes;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + first_output * row_bytes;
  __m512 sums[chains][Rows][Outputs];
  for (int c = 0; c < chains; ++c) {
    for (int r = 0; r < Rows; ++r) {
      for (int n = 0; n < Outputs; ++n) sums[c][r][n] = _mm512_setzero_ps();
    }
  }
  int64_t k = 0;
  for (; k + 16 * chains <= weights.in; k += 16 * chains) {
    for (int c = 0; c < chains; ++c) {
      const int64_t at = k + 16 * c;
      __m512 w[Outputs];
      for (int n = 0; n < Outputs; ++n) w[n] = load<Type>(data + n * row_bytes + at * element_bytes);
      for (int r = 0; r < Rows; ++r) {
        const __m512 value = _mm512_loadu_ps(x + r * x_stride + at);
        for (int n = 0; n < Outputs; ++n) sums[c][r][n] = _mm512_fmadd_ps(value, w[n], sums[c][r][n]);
      }
    }
  }
  for (; k < weights.in; k += 16) {
    const __mmask16 lanes = lanes_below(weights.in - k);
    for (int n = 0; n < Outputs; ++n) {
      const __m512 w = load<Type>(lanes, data + n * row_bytes + k * element_bytes);
      for (int r = 0; r < Rows; ++r) {
        sums[0][r][n] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, x + r * x_stride + k), w, sums[0][r][n]);
      }
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int n = 0; n < Outputs; ++n) {
      __m512 sum = sums[0][r][n];
      for (int c = 1; c < chains; ++c) sum = _mm512_add_ps(sum, sums[c][r][n]);
      const float bias = weights.bias != nullptr ? weights.bias[first_output + n] : 0.0f;
      out[r * stride + first_output + n] = _mm512_reduce_add_ps(sum) + bias;
    }
  }
}

template <DType Type, int Rows>
void gemv_rows(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t first_output,
               int64_t last_output, float* out, int64_t stride) {
  constexpr int outputs = 4;
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
    const int64_t now = rows - row < max_gemv_rows ? rows - row : max_gemv_rows;
    gemv_of[now](weights, x + row * x_stride, x_stride, first_output, last_output, out + row * stride, stride);
  }
}

void gemv(const MatrixWeights& weights, const float* x, int64_t x_stride, int64_t rows, int64_t first_output,
          int64_t last_output, float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, x_stride, rows, first_output, last_output, out, stride);
}

// Sixteen vectors as the rows of a square, transposed: lanes are exchanged in pairs, fours, eights and sixteens.
inline void transpose_square(__m512 v[16]) {
  __m512 t[16];
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 1]);
    const __m512d c = _mm512_castps_pd(t[i + 2]), d = _mm512_castps_pd(t[i + 3]);
    v[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    v[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    v[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    v[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
  // v[4 a + b] now holds, in its 128-bit part p, rows 4a to 4a+3 of column 4p + b.
  for (int b = 0; b < 4; ++b) {
    const __m512 low01 = _mm512_shuffle_f32x4(v[b], v[4 + b], 0x44),
                 high01 = _mm512_shuffle_f32x4(v[b], v[4 + b], 0xee);
    const __m512 low23 = _mm512_shuffle_f32x4(v[8 + b], v[12 + b], 0x44);
    const __m512 high23 = _mm512_shuffle_f32x4(v[8 + b], v[12 + b], 0xee);
    t[b] = _mm512_shuffle_f32x4(low01, low23, 0x88);
    t[4 + b] = _mm512_shuffle_f32x4(low01, low23, 0xdd);
    t[8 + b] = _mm512_shuffle_f32x4(high01, high23, 0x88);
    t[12 + b] = _mm512_shuffle_f32x4(high01, high23, 0xdd);
  }
  for (int i = 0; i < 16; ++i) v[i] = t[i];
}

template <DType Type>
void transpose_typed(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data);
  for (int64_t tile = 0; tile < panel_outputs; tile += 16) {
    const int64_t outputs = weights.out - first_output - tile;
    if (outputs <= 0) return;
    for (int64_t k = 0; k < count; k += 16) {
      const __mmask16 lanes = lanes_below(count - k);
      __m512 square[16];
      for (int n = 0; n < 16; ++n) {
        const int64_t element = (first_output + tile + n) * weights.in + first + k;
        square[n] = n < outputs ? load<Type>(lanes, data + element * element_bytes) : _mm512_setzero_ps();
      }
      transpose_square(square);
      for (int i = 0; i < 16; ++i) _mm512_store_ps(panel + (k + i) * panel_outputs + tile, square[i]);
    }
  }
}

void transpose(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  const auto run = weights.type == DType::f32   ? transpose_typed<DType::f32>
                   : weights.type == DType::f16 ? transpose_typed<DType::f16>
                                                : transpose_typed<DType::bf16>;
  run(weights, first_output, first, count, panel);
}

// Six rows by 64 outputs, as for integers.
constexpr int micro_rows = 6;

template <int Rows>
void multiply_rows(const float* panel, int64_t count, const float* x, int64_t stride, float* sums) {
  __m512 totals[Rows][panel_tiles];
  for (int r = 0; r < Rows; ++r) {
    for (int t = 0; t < panel_tiles; ++t) totals[r][t] = _mm512_setzero_ps();
  }
  for (int64_t k = 0; k < count; ++k, panel += panel_outputs) {
    __m512 weights[panel_tiles];
    for (int t = 0; t < panel_tiles; ++t) weights[t] = _mm512_load_ps(panel + t * tile_outputs);
    for (int r = 0; r < Rows; ++r) {
      const __m512 value = _mm512_set1_ps(x[r * stride + k]);
      for (int t = 0; t < panel_tiles; ++t) totals[r][t] = _mm512_fmadd_ps(value, weights[t], totals[r][t]);
    }
  }
  for (int r = 0; r < Rows; ++r) {
    for (int t = 0; t < panel_tiles; ++t) {
      float* const sum = sums + r * panel_outputs + t * tile_outputs;
      _mm512_store_ps(sum, _mm512_add_ps(totals[r][t], _mm512_load_ps(sum)));
    }
  }
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t stride, int64_t rows, float* sums) {
  using Multiply = void (*)(const float*, int64_t, const float*, int64_t, float*);
  constexpr Multiply last_rows[micro_rows] = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                              multiply_rows<3>, multiply_rows<4>, multiply_rows<5>};
  int64_t row = 0;
  for (; row + micro_rows <= rows; row += micro_rows) {
    multiply_rows<micro_rows>(panel, count, x + row * stride, stride, sums + row * panel_outputs);
  }
  if (row < rows) last_rows[rows - row](panel, count, x + row * stride, stride, sums + row * panel_outputs);
}

}  // namespace

const MatrixKernels matrix_avx512 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
