// Sixteen floats. Only kernels_avx512.cc includes this.
#pragma once
// GCC 12 warns of variables that its own header leaves undefined on purpose (its bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#else
#include <immintrin.h>
#endif

#include <cstdint>

namespace billfish::cpu {
namespace {

struct Vector {
  using Value = __m512;
  static constexpr int width = 16;
  // Register tiles: rows x vectors accumulators of a matrix product; queries x 4 keys accumulators of dot products.
  static constexpr int gemm_rows = 6, gemm_vectors = 4;
  static constexpr int dot_queries = 4;

  static Value zero() { return _mm512_setzero_ps(); }
  static Value broadcast(float value) { return _mm512_set1_ps(value); }

  // Functions with a count touch only that many elements, 1 to 16; a load fills the rest with zeros.
  static Value load(const float* from) { return _mm512_loadu_ps(from); }
  static Value load(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(lanes(count), from); }
  static void store(float* to, Value value) { _mm512_storeu_ps(to, value); }
  static void store(float* to, Value value, int64_t count) { _mm512_mask_storeu_ps(to, lanes(count), value); }

  static Value load_f16(const uint16_t* from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Value load_f16(const uint16_t* from, int64_t count) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes(count), from));
  }
  static Value load_bf16(const uint16_t* from) {
    return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }
  static Value load_bf16(const uint16_t* from, int64_t count) {
    return widen_bf16(_mm256_maskz_loadu_epi16(lanes(count), from));
  }

  // To 16 bits, rounded to nearest even and saturated at the largest finite value; infinity becomes NaN, so that a
  // broken value stays visible.
  static void store_f16(uint16_t* to, Value value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow_f16(value));
  }
  static void store_f16(uint16_t* to, Value value, int64_t count) {
    _mm256_mask_storeu_epi16(to, lanes(count), narrow_f16(value));
  }
  static void store_bf16(uint16_t* to, Value value) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), narrow_bf16(value));
  }
  static void store_bf16(uint16_t* to, Value value, int64_t count) {
    _mm256_mask_storeu_epi16(to, lanes(count), narrow_bf16(value));
  }

  static Value add(Value a, Value b) { return _mm512_add_ps(a, b); }
  static Value subtract(Value a, Value b) { return _mm512_sub_ps(a, b); }
  static Value multiply(Value a, Value b) { return _mm512_mul_ps(a, b); }
  static Value divide(Value a, Value b) { return _mm512_div_ps(a, b); }
  static Value multiply_add(Value a, Value b, Value c) { return _mm512_fmadd_ps(a, b, c); }
  static Value maximum(Value a, Value b) { return _mm512_max_ps(a, b); }
  static float first(Value value) { return _mm512_cvtss_f32(value); }
  static float sum(Value value) { return _mm512_reduce_add_ps(value); }
  static float largest(Value value) { return _mm512_reduce_max_ps(value); }

  // to[0..3] = sum(a), sum(b), sum(c), sum(d).
  static void sum4(Value a, Value b, Value c, Value d, float* to) {
    const __m256 ab = _mm256_hadd_ps(fold(a), fold(b));
    const __m256 cd = _mm256_hadd_ps(fold(c), fold(d));
    const __m256 abcd = _mm256_hadd_ps(ab, cd);
    _mm_storeu_ps(to, _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1)));
  }

  // exp(x) and 2^x with a relative error below 2e-7. Results below 2^-126 or so are 0, above the largest float
  // infinity; NaN stays NaN.
  static Value exp(Value x) {
    x = _mm512_min_ps(_mm512_set1_ps(89.0f), _mm512_max_ps(_mm512_set1_ps(-89.0f), x));
    const Value whole = nearest(_mm512_mul_ps(x, _mm512_set1_ps(1.44269502e+00f)));
    // log2(e) in two floats: the remainder after `whole` must be correct to the last bit even for large x.
    Value part = _mm512_fmsub_ps(x, _mm512_set1_ps(1.44269502e+00f), whole);
    part = _mm512_fmadd_ps(x, _mm512_set1_ps(1.92596303e-08f), part);
    return scaled_exp2(part, whole);
  }
  static Value exp2(Value x) {
    x = _mm512_min_ps(_mm512_set1_ps(129.0f), _mm512_max_ps(_mm512_set1_ps(-129.0f), x));
    const Value whole = nearest(x);
    return scaled_exp2(_mm512_sub_ps(x, whole), whole);
  }

  // Keeps the value in its register across iterations of a loop.
  static void keep_in_register(Value& value) { asm("" : "+v"(value)); }

  // Transposes a 16 x 16 matrix whose rows are v[0..15].
  static void transpose(Value* v) {
    Value t[16];
    for (int i = 0; i < 16; i += 2) {
      t[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
      t[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    // Now 4x4 blocks: v[i + j] holds, in each 128-bit lane L, column 4L + j of rows i..i+3.
    for (int i = 0; i < 16; i += 4) {
      v[i] = _mm512_shuffle_ps(t[i], t[i + 2], 0x44);
      v[i + 1] = _mm512_shuffle_ps(t[i], t[i + 2], 0xee);
      v[i + 2] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      v[i + 3] = _mm512_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    // Transpose the blocks: lanes of v[j], v[4 + j], v[8 + j], v[12 + j].
    for (int j = 0; j < 4; ++j) {
      const Value even_low = _mm512_shuffle_f32x4(v[j], v[4 + j], 0x88);  // lanes 0, 2 of both
      const Value odd_low = _mm512_shuffle_f32x4(v[j], v[4 + j], 0xdd);   // lanes 1, 3
      const Value even_high = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0x88);
      const Value odd_high = _mm512_shuffle_f32x4(v[8 + j], v[12 + j], 0xdd);
      t[j] = _mm512_shuffle_f32x4(even_low, even_high, 0x88);
      t[4 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0x88);
      t[8 + j] = _mm512_shuffle_f32x4(even_low, even_high, 0xdd);
      t[12 + j] = _mm512_shuffle_f32x4(odd_low, odd_high, 0xdd);
    }
    for (int i = 0; i < 16; ++i) v[i] = t[i];
  }

 private:
  static __mmask16 lanes(int64_t count) { return static_cast<__mmask16>((1u << count) - 1u); }

  static Value widen_bf16(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
  }
  // Clamps to the limits; infinity becomes NaN. With a NaN operand max and min return the second one, so NaN passes
  // through; value - value is zero, which changes no bit, or NaN.
  static Value clamp(Value value, float limit) {
    const Value within = _mm512_min_ps(_mm512_set1_ps(limit), _mm512_max_ps(_mm512_set1_ps(-limit), value));
    return _mm512_or_ps(within, _mm512_sub_ps(value, value));
  }
  static __m256i narrow_f16(Value value) {
    return _mm512_cvtps_ph(clamp(value, 65504.0f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static __m256i narrow_bf16(Value value) {
    value = clamp(value, 3.38953139e38f);
    const __m512i bits = _mm512_castps_si512(value);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16));
  }

  static __m256 fold(Value value) {
    return _mm256_add_ps(_mm512_castps512_ps256(value), _mm512_extractf32x8_ps(value, 1));
  }

  static Value nearest(Value x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
  // 2^part * 2^whole for |part| <= 0.5: a polynomial fitted for minimal relative error, 2e-9 before rounding.
  static Value scaled_exp2(Value part, Value whole) {
    Value p = _mm512_set1_ps(1.53533620e-04f);
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.33988739e-03f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(9.61843692e-03f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(5.55033237e-02f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(2.40226477e-01f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(6.93147182e-01f));
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(1.0f));
    const __mmask16 normal = _mm512_cmp_ps_mask(whole, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm512_maskz_scalef_ps(normal, p, whole);
  }
};

}  // namespace
}  // namespace billfish::cpu
