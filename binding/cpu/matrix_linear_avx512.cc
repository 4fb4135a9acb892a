// Unquantised linears with AVX-512, in fp32.
#if defined(__x86_64__)
#include <immintrin.h>

#include <utility>

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

// Sums are arrays that only constants index (I..., by fold expressions), and this tells the compiler to leave each in
// its register from one step to the next: GCC otherwise stores them all at every step, at a third of the speed.
__attribute__((always_inline)) inline void keep_in_register(__m512& sum) { asm("" : "+v"(sum)); }

inline __mmask16 lanes_below(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u);
}

// One row of x times weight row n: straight from memory, in eight sums that hide the latency of the multiply-add. One
// weight row at a time, because memory is read fastest in a single stream: streams that are a power of two apart fall
// on the same sets of the cache and are read at half the speed.
template <DType Type, int... I>
float dot(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t n, const float* x) {
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2, step = 16 * sizeof...(I);
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes;
  __m512 sums[sizeof...(I)];
  ((sums[I] = _mm512_setzero_ps()), ...);
  int64_t k = 0;
  for (; k + step <= weights.in; k += step) {
    ((sums[I] =
          _mm512_fmadd_ps(_mm512_loadu_ps(x + k + I * 16), load<Type>(data + (k + I * 16) * element_bytes), sums[I])),
     ...);
    for (int64_t line = 0; line < step * element_bytes; line += 64) {
      _mm_prefetch(data + k * element_bytes + fetch_ahead + line, _MM_HINT_T0);
    }
    (keep_in_register(sums[I]), ...);
  }
  for (; k < weights.in; k += 16) {
    const __mmask16 lanes = lanes_below(weights.in - k);
    const __m512 w = load<Type>(lanes, data + k * element_bytes);
    sums[0] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, x + k), w, sums[0]);
  }
  for (size_t i = 1; i < sizeof...(I); ++i) sums[0] = _mm512_add_ps(sums[0], sums[i]);
  return _mm512_reduce_add_ps(sums[0]);
}

// Several rows of x times Outputs weight rows from first_output on: I / Outputs is the row (from first_row on),
// I % Outputs the weight row. The weights come from the first-level cache; meanwhile `next`, as many bytes as they
// have, is fetched into it in one stream.
template <DType Type, int Outputs, int... I>
void multiply_outputs(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t first_output,
                      const float* x, int64_t x_rows, int64_t first_row, float* out, int64_t stride,
                      const uint8_t* next) {
  constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2, step_bytes = 16 * element_bytes;
  const int64_t row_bytes = weights.in * element_bytes;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + first_output * row_bytes;
  __m512 totals[sizeof...(I)];
  ((totals[I] = _mm512_setzero_ps()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t width = weights.in - first < segment_inputs ? weights.in - first : segment_inputs;
    const float* const segment = x + first * x_rows + first_row * width;
    const uint8_t* w = data + first * element_bytes;
    int64_t k = 0;
    for (; k + 16 <= width; k += 16, w += step_bytes, next += Outputs * step_bytes) {
      ((totals[I] = _mm512_fmadd_ps(_mm512_loadu_ps(segment + I / Outputs * width + k),
                                    load<Type>(w + I % Outputs * row_bytes), totals[I])),
       ...);
      (keep_in_register(totals[I]), ...);
      for (int64_t line = 0; line < Outputs * step_bytes; line += 64) _mm_prefetch(next + line, _MM_HINT_T0);
    }
    if (k < width) {
      const __mmask16 lanes = lanes_below(width - k);
      ((totals[I] = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(lanes, segment + I / Outputs * width + k),
                                    load<Type>(lanes, w + I % Outputs * row_bytes), totals[I])),
       ...);
    }
  }
  const auto write = [&](int64_t row, int64_t n, __m512 total) {
    const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
    out[row * stride + n] = _mm512_reduce_add_ps(total) + bias;
  };
  (write(first_row + I / Outputs, first_output + I % Outputs, totals[I]), ...);
}

template <DType Type, int Rows, int Outputs>
void multiply_rows(const MatrixWeights& weights, int64_t first_output, const float* x, int64_t x_rows,
                   int64_t first_row, float* out, int64_t stride, const uint8_t* next) {
  multiply_outputs<Type, Outputs>(std::make_integer_sequence<int, Rows * Outputs>{}, weights, first_output, x, x_rows,
                                  first_row, out, stride, next);
}

// All rows of x times Outputs weight rows, four rows at a time.
template <DType Type, int Outputs>
void multiply_outputs(const MatrixWeights& weights, int64_t first_output, const float* x, int64_t rows, float* out,
                      int64_t stride) {
  using Multiply =
      void (*)(const MatrixWeights&, int64_t, const float*, int64_t, int64_t, float*, int64_t, const uint8_t*);
  constexpr Multiply multiply_of[] = {nullptr, multiply_rows<Type, 1, Outputs>, multiply_rows<Type, 2, Outputs>,
                                      multiply_rows<Type, 3, Outputs>, multiply_rows<Type, 4, Outputs>};
  constexpr int64_t rows_at_once = 4;
  const int64_t next_output = first_output + 2 * Outputs <= weights.out ? first_output + Outputs : first_output;
  const uint8_t* const next =
      static_cast<const uint8_t*>(weights.data) + next_output * weights.in * (Type == DType::f32 ? 4 : 2);
  for (int64_t row = 0; row < rows; row += rows_at_once) {
    const int64_t now = rows - row < rows_at_once ? rows - row : rows_at_once;
    multiply_of[now](weights, first_output, x, rows, row, out, stride, next);
  }
}

template <DType Type>
void gemv_typed(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  if (rows == 1) {
    for (int64_t n = first_output; n < last_output; ++n) {
      const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
      out[n] = dot<Type>(std::make_integer_sequence<int, 8>{}, weights, n, x) + bias;
    }
    return;
  }
  int64_t n = first_output;
  for (; n + 4 <= last_output; n += 4) multiply_outputs<Type, 4>(weights, n, x, rows, out, stride);
  for (; n < last_output; ++n) multiply_outputs<Type, 1>(weights, n, x, rows, out, stride);
}

void gemv(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
          float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, rows, first_output, last_output, out, stride);
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
        // What the next call wants arrives while this panel is multiplied.
        if (n < outputs) _mm_prefetch(data + (element + count) * element_bytes, _MM_HINT_T0);
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

// I counts the sums: I / panel_tiles is the row, I % panel_tiles the tile.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const float* panel, int64_t count, const float* x, float* sums) {
  __m512 totals[sizeof...(I)];
  ((totals[I] = _mm512_setzero_ps()), ...);
  for (int64_t k = 0; k < count; ++k, panel += panel_outputs) {
    ((totals[I] = _mm512_fmadd_ps(_mm512_set1_ps(x[I / panel_tiles * count + k]),
                                  _mm512_load_ps(panel + I % panel_tiles * tile_outputs), totals[I])),
     ...);
    (keep_in_register(totals[I]), ...);
  }
  ((_mm512_store_ps(sums + I * tile_outputs, _mm512_add_ps(totals[I], _mm512_load_ps(sums + I * tile_outputs)))), ...);
}

template <int Rows>
void multiply_rows(const float* panel, int64_t count, const float* x, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * panel_tiles>{}, panel, count, x, sums);
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t rows, float* sums) {
  using Multiply = void (*)(const float*, int64_t, const float*, float*);
  constexpr Multiply last_rows[micro_rows] = {nullptr,          multiply_rows<1>, multiply_rows<2>,
                                              multiply_rows<3>, multiply_rows<4>, multiply_rows<5>};
  int64_t row = 0;
  for (; row + micro_rows <= rows; row += micro_rows) {
    multiply_rows<micro_rows>(panel, count, x + row * count, sums + row * panel_outputs);
  }
  if (row < rows) last_rows[rows - row](panel, count, x + row * count, sums + row * panel_outputs);
}

}  // namespace

const MatrixKernels matrix_avx512 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
