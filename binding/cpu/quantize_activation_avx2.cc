#if defined(__x86_64__)
#include <immintrin.h>

#include "cpu/quantize_activation.h"

namespace billfish::cpu {
namespace {

// All ones in the lanes k .. k+7 that exist.
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

}  // namespace

void quantize_segment_avx2(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // See the scalar version for why magnitudes are compared as integers.
  const __m256i magnitude_mask = _mm256_set1_epi32(0x7fffffff);
  __m256i magnitudes = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i bits = _mm256_maskload_epi32(reinterpret_cast<const int*>(x + k), lanes_below(count - k));
    magnitudes = _mm256_max_epu32(magnitudes, _mm256_and_si256(bits, magnitude_mask));
  }
  const uint32_t largest_bits = largest_lane(magnitudes);
  const float largest = _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(static_cast<int>(largest_bits))));
  const bool finite = largest_bits < 0x7f800000u;
  const bool zero = largest < smallest_quantized_magnitude;
  const float inverse = finite && !zero ? largest_code / largest : 0.0f;

  const __m256 factor = _mm256_set1_ps(inverse);
  // Inputs 0 2 4 6 1 3 5 7, as bytes of eight 16-bit codes.
  const __m128i order = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
  __m256i total = _mm256_setzero_si256();
  for (int64_t k = 0; k < count; k += 8) {
    const __m256i lanes = finite ? lanes_below(count - k) : _mm256_setzero_si256();
    const __m256i rounded = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_maskload_ps(x + k, lanes), factor));
    total = _mm256_add_epi32(total, rounded);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(rounded), _mm256_extracti128_si256(rounded, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + k), _mm_shuffle_epi8(narrow, order));
  }
  *scale = zero ? 0.0f : largest / largest_code;
  *sum = sum_of_lanes(total);
}

}  // namespace billfish::cpu
#endif
