// The kernels in AVX2. What the instruction sets do alike is in *_body.h and row_kernels.h, written over the types of
// types_avx2.h; here is the rest.
#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"
#include "cpu/types_avx2.h"

// They need the types.
#include "cpu/attention_kernels_body.h"
#include "cpu/delta_rule_body.h"
#include "cpu/matrix_linear_body.h"
#include "cpu/quantized_linear_body.h"
// They need the one before.
#include "cpu/float_code_body.h"
#include "cpu/pair_gemv_body.h"
#include "cpu/shifted_code_gemv_body.h"

namespace billfish::cpu {
namespace {

// --- Activations to 16-bit integers.

namespace quantized {

// All ones in the lanes k .. k+7 below count.
__m256i lanes_below(int64_t count) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(count < 8 ? static_cast<int>(count) : 8), lane);
}

uint32_t largest_lane(__m256i v) {
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  return static_cast<uint32_t>(_mm_cvtsi128_si32(m));
}

int32_t sum_of_lanes(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
  return _mm_cvtsi128_si32(s);
}

void quantize_segment(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // See the scalar version for why magnitudes are compared as integers.
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  __m256i magnitudes = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i bits = _mm256_maskload_epi32(reinterpret_cast<const int*>(x + k), lanes_below(count - k));
    magnitudes = _mm256_max_epu32(magnitudes, _mm256_and_si256(bits, magnitude_mask));
  }
  const uint32_t largest_bits = largest_lane(magnitudes);
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(largest_bits))));
  const SegmentScale segment = scale_of(largest_bits, largest);

  const __m256 factor = _mm256_set1_ps(segment.inverse);
  // Inputs 0 2 4 6 1 3 5 7, as bytes of eight 16-bit codes.
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  __m256i total = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i lanes = segment.finite ? lanes_below(count - k) : _mm256_setzero_si256();
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_maskload_ps(x + k, lanes), factor));
    total = _mm256_add_epi32(total, rounded);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm_shuffle_epi8(narrow, order));
  }
  *scale = segment.scale;
  *sum = sum_of_lanes(total);
}

}  // namespace quantized

// --- Unquantized linears: the GEMV.

namespace matrix {

// Weight row n times rows first_row, first_row + 1, ... of x, in Chains sums of 8 lanes each, so that even a few rows
// hide the latency of the multiply-add: I / Chains is the row, I % Chains the sum.
template <DType Type, int Chains, int... I>
void dot(std::integer_sequence<int, I...>, const Matrix& weights, int64_t n, const float* x, int64_t x_rows,
         int64_t first_row, float* out, int64_t stride) {
  constexpr int rows = sizeof...(I) / Chains;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes<Type>;
  Value sums[sizeof...(I)];
  ((sums[I] = Vector::zero()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t count = smaller(segment_inputs, weights.in - first);
    const float* const segment = x + first * x_rows + first_row * count;
    const uint8_t* const w = data + first * element_bytes<Type>;
    int64_t k = 0;
    for (; k + 8 * Chains <= count; k += 8 * Chains) {
      ((sums[I] = Vector::multiply_add(Vector::load(segment + I / Chains * count + k + I % Chains * 8),
                                       load<Type>(w + (k + I % Chains * 8) * element_bytes<Type>), sums[I])),
       ...);
      (Vector::keep_in_register(sums[I]), ...);
      fetch_weights(w + k * element_bytes<Type>, 8 * Chains * element_bytes<Type>);
    }
    for (; k < count; k += 8) {
      const Value weight = load<Type>(w + k * element_bytes<Type>, count - k);
      for (int r = 0; r < rows; ++r) {
        const uint8_t* const values = reinterpret_cast<const uint8_t*>(segment + r * count + k);
        sums[r * Chains] = Vector::multiply_add(load<DType::f32>(values, count - k), weight, sums[r * Chains]);
      }
    }
  }
  const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
  for (int r = 0; r < rows; ++r) {
    Value sum = sums[r * Chains];
    for (int c = 1; c < Chains; ++c) sum = Vector::add(sum, sums[r * Chains + c]);
    out[(first_row + r) * stride + n] = Vector::sum(sum) + bias;
  }
}

template <DType Type, int Rows, int Chains>
void dot_rows(const Matrix& weights, int64_t n, const float* x, int64_t x_rows, int64_t first_row, float* out,
              int64_t stride) {
  dot<Type, Chains>(std::make_integer_sequence<int, Rows * Chains>{}, weights, n, x, x_rows, first_row, out, stride);
}

template <DType Type>
void gemv_typed(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  using Dot = void (*)(const Matrix&, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  constexpr Dot dot_of[] = {nullptr, dot_rows<Type, 1, 8>, dot_rows<Type, 2, 4>, dot_rows<Type, 3, 2>,
                            dot_rows<Type, 4, 2>};
  constexpr int64_t rows_at_once = 4;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      dot_of[smaller(rows_at_once, rows - row)](weights, n, x, rows, row, out, stride);
    }
  }
}

}  // namespace matrix
}  // namespace

const Kernels kernels_avx2 = BILLFISH_CPU_KERNELS;
const FloatCodeKernels float_code_kernels_avx2_subnormals = {shifted_code::gemv, float_code::dequantize};

}  // namespace billfish::cpu
#endif
