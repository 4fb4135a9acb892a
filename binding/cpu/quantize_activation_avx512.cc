#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/quantize_activation.h"

namespace billfish::cpu {
namespace {

// Lanes k .. k+15 that exist.
__mmask16 lanes_below(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffffu : count <= 0 ? 0u : (1u << count) - 1u);
}

}  // namespace

void quantize_segment_avx512(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // See the scalar version for why magnitudes are compared as integers.
  const __m512i magnitude_mask = _mm512_set1_epi32(0x7fffffff);
  __m512i magnitudes = _mm512_setzero_si512();
  for (int64_t k = 0; k < count; k += 16) {
    const __m512i bits = _mm512_maskz_loadu_epi32(lanes_below(count - k), x + k);
    magnitudes = _mm512_max_epu32(magnitudes, _mm512_and_si512(bits, magnitude_mask));
  }
  const uint32_t largest_bits = _mm512_reduce_max_epu32(magnitudes);
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(largest_bits))));
  const bool finite = largest_bits < 0x7f800000u;
  const bool zero = largest < smallest_quantized_magnitude;
  const float inverse = finite && !zero ? largest_code / largest : 0.0f;

  const __m512 factor = _mm512_set1_ps(inverse);
  // Inputs 0 2 4 6 1 3 5 7 of both eights.
  const __m256i order = _mm256_setr_epi16(0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15);
  __m512i total = _mm512_setzero_si512();
  for (int64_t k = 0; k < count; k += 16) {
    const __mmask16 lanes = finite ? lanes_below(count - k) : static_cast<__mmask16>(0);
    const __m512i rounded = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(lanes, x + k), factor));
    total = _mm512_add_epi32(total, rounded);
    const __m256i ordered = _mm256_permutexvar_epi16(order, _mm512_cvtepi32_epi16(rounded));
    if (count - k > 8) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes + k), ordered);
    } else {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm256_castsi256_si128(ordered));
    }
  }
  *scale = zero ? 0.0f : largest / largest_code;
  *sum = _mm512_reduce_add_epi32(total);
}

}  // namespace billfish::cpu
#endif
