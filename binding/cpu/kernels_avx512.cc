// The kernels in AVX-512. What the instruction sets do alike is in *_body.h and row_kernels.h, written over the types
// of types_avx512.h; here is the rest.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"
#include "cpu/types_avx512.h"

// They need the types.
#include "cpu/attention_kernels_body.h"
#include "cpu/delta_rule_body.h"
#include "cpu/matrix_linear_body.h"
#include "cpu/quantized_linear_body.h"
// They need the one before.
#include "cpu/byte_gemv_body.h"
#include "cpu/float_code_body.h"

namespace billfish::cpu {
namespace {

// --- Activations to 16-bit integers.

namespace quantized {

// The lanes k .. k+15 below count.
__mmask16 lanes_below(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u);
}

void quantize_segment(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // See the scalar version for why magnitudes are compared as integers.
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  __m512i magnitudes = _mm512_setzero_si512();
  for (int64_t k = 0; k < count; k += 16) {
    const __m512i bits = _mm512_maskz_loadu_epi32(lanes_below(count - k), x + k);
    magnitudes = _mm512_max_epu32(magnitudes, _mm512_and_si512(bits, magnitude_mask));
  }
  const uint32_t largest_bits = _mm512_reduce_max_epu32(magnitudes);
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(largest_bits))));
  const SegmentScale segment = scale_of(largest_bits, largest);

  const __m512 factor = _mm512_set1_ps(segment.inverse);
  // Inputs 0 2 4 6 1 3 5 7 of both eights.
  const __m256i order = _mm256_setr_epi16(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  __m512i total = _mm512_setzero_si512();
  for (int64_t k = 0; k < count; k += 16) {
    const __mmask16 lanes = segment.finite ? lanes_below(count - k) : static_cast<__mmask16>(0);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + k), factor));
    total = _mm512_add_epi32(total, rounded);
    const __m256i ordered = _mm256_permutexvar_epi16(order, _mm512_cvtepi32_epi16(rounded));
    if (count - k > 8) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + k), ordered);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm256_castsi256_si128(ordered));
    }
  }
  *scale = segment.scale;
  *sum = _mm512_reduce_add_epi32(total);
}

}  // namespace quantized

// --- Unquantized linears: the GEMV.

namespace matrix {

// One row of x times weight row n, from memory, in eight sums that hide the latency of the multiply-add. One weight row
// at a time, because memory is fastest as a single stream: streams a power of two apart map to the same cache sets and
// run at half the speed.
template <DType Type, int... I>
float dot(std::integer_sequence<int, I...>, const Matrix& weights, int64_t n, const float* x) {
  constexpr int64_t step = 16 * sizeof...(I);
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes<Type>;
  Value sums[sizeof...(I)];
  ((sums[I] = Vector::zero()), ...);
  int64_t k = 0;
  for (; k + step <= weights.in; k += step) {
    ((sums[I] = Vector::multiply_add(Vector::load(x + k + I * 16),
                                     load<Type>(data + (k + I * 16) * element_bytes<Type>), sums[I])),
     ...);
    fetch_weights(data + k * element_bytes<Type>, step * element_bytes<Type>);
    (Vector::keep_in_register(sums[I]), ...);
  }
  for (; k < weights.in; k += 16) {
    const Value w = load<Type>(data + k * element_bytes<Type>, weights.in - k);
    sums[0] =
        Vector::multiply_add(load<DType::f32>(reinterpret_cast<const uint8_t*>(x + k), weights.in - k), w, sums[0]);
  }
  for (size_t i = 1; i < sizeof...(I); ++i) sums[0] = Vector::add(sums[0], sums[i]);
  return Vector::sum(sums[0]);
}

// Several rows of x times Outputs weight rows from first_output on: I / Outputs is the row (from first_row on), I %
// Outputs the weight row. The weights come from the L1 cache; meanwhile as many bytes from `next` on are prefetched
// into it in one stream.
template <DType Type, int Outputs, int... I>
void multiply_outputs(std::integer_sequence<int, I...>, const Matrix& weights, int64_t first_output, const float* x,
                      int64_t x_rows, int64_t first_row, float* out, int64_t stride, const uint8_t* next) {
  constexpr int64_t step_bytes = 16 * element_bytes<Type>;
  const int64_t row_bytes = weights.in * element_bytes<Type>;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + first_output * row_bytes;
  Value totals[sizeof...(I)];
  ((totals[I] = Vector::zero()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t width = weights.in - first < segment_inputs ? weights.in - first : segment_inputs;
    const float* const segment = x + first * x_rows + first_row * width;
    const uint8_t* w = data + first * element_bytes<Type>;
    int64_t k = 0;
    for (; k + 16 <= width; k += 16, w += step_bytes, next += Outputs * step_bytes) {
      ((totals[I] = Vector::multiply_add(Vector::load(segment + I / Outputs * width + k),
                                         load<Type>(w + I % Outputs * row_bytes), totals[I])),
       ...);
      (Vector::keep_in_register(totals[I]), ...);
      for (int64_t line = 0; line < Outputs * step_bytes; line += 64) __builtin_prefetch(next + line);
    }
    if (k < width) {
      ((totals[I] = Vector::multiply_add(Vector::load(segment + I / Outputs * width + k, width - k),
                                         load<Type>(w + I % Outputs * row_bytes, width - k), totals[I])),
       ...);
    }
  }
  const auto write = [&](int64_t row, int64_t n, Value total) {
    const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
    out[row * stride + n] = Vector::sum(total) + bias;
  };
  (write(first_row + I / Outputs, first_output + I % Outputs, totals[I]), ...);
}

template <DType Type, int Rows, int Outputs>
void multiply_rows(const Matrix& weights, int64_t first_output, const float* x, int64_t x_rows, int64_t first_row,
                   float* out, int64_t stride, const uint8_t* next) {
  multiply_outputs<Type, Outputs>(std::make_integer_sequence<int, Rows * Outputs>{}, weights, first_output, x, x_rows,
                                  first_row, out, stride, next);
}

// All rows of x times Outputs weight rows, four rows at a time.
template <DType Type, int Outputs>
void multiply_outputs(const Matrix& weights, int64_t first_output, const float* x, int64_t rows, float* out,
                      int64_t stride) {
  using Multiply = void (*)(const Matrix&, int64_t, const float*, int64_t, int64_t, float*, int64_t, const uint8_t*);
  constexpr Multiply multiply_of[] = {nullptr, multiply_rows<Type, 1, Outputs>, multiply_rows<Type, 2, Outputs>,
                                      multiply_rows<Type, 3, Outputs>, multiply_rows<Type, 4, Outputs>};
  constexpr int64_t rows_at_once = 4;
  const int64_t next_output = first_output + 2 * Outputs <= weights.out ? first_output + Outputs : first_output;
  const uint8_t* const next =
      static_cast<const uint8_t*>(weights.data) + next_output * weights.in * element_bytes<Type>;
  for (int64_t row = 0; row < rows; row += rows_at_once) {
    const int64_t now = rows - row < rows_at_once ? rows - row : rows_at_once;
    multiply_of[now](weights, first_output, x, rows, row, out, stride, next);
  }
}

template <DType Type>
void gemv_typed(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
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

}  // namespace matrix
}  // namespace

const Kernels kernels_avx512 = BILLFISH_CPU_KERNELS;

}  // namespace billfish::cpu
#endif
