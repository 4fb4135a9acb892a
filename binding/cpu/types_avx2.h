// The types over which *_body.h and row_kernels.h write what the instruction sets do alike, in AVX2.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace billfish::cpu {
namespace {

// Eight floats. types_avx512.h documents the functions.
struct Vector {
  using Value = __m256;
  static constexpr int width = 8;
  static constexpr int gemm_rows = 6, gemm_vectors = 2;
  static constexpr int dot_queries = 2;

  static Value zero() { return _mm256_setzero_ps(); }
  static Value broadcast(float value) { return _mm256_set1_ps(value); }

  static Value load(const float* from) { return _mm256_loadu_ps(from); }
  static Value load(const float* from, int64_t count) { return _mm256_maskload_ps(from, lanes(count)); }
  static void store(float* to, Value value) { _mm256_storeu_ps(to, value); }
  static void store(float* to, Value value, int64_t count) { _mm256_maskstore_ps(to, lanes(count), value); }

  static Value load_f16(const uint16_t* from) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Value load_f16(const uint16_t* from, int64_t count) { return _mm256_cvtph_ps(load_halves(from, count)); }
  static Value load_bf16(const uint16_t* from) {
    return widen_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Value load_bf16(const uint16_t* from, int64_t count) { return widen_bf16(load_halves(from, count)); }

  static Value load_e4m3(const uint8_t* from) {
    const __m128i bytes = _mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    return _mm256_cvtph_ps(_mm256_castsi256_si128(halves_of_e4m3(_mm256_castsi128_si256(_mm_slli_epi16(bytes, 8)))));
  }
  static Value load_e8m0(const uint8_t* from) {
    const __m256i codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_slli_epi32(codes, 23), _mm256_set1_epi32(0x00400000)));
  }
  static void load_e4m3(const uint8_t* from, Value* first, Value* second) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    const __m256i even = halves_of_e4m3(_mm256_slli_epi16(pairs, 8)), odd = halves_of_e4m3(pairs);
    first[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(even));
    first[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(even, 1));
    second[0] = _mm256_cvtph_ps(_mm256_castsi256_si128(odd));
    second[1] = _mm256_cvtph_ps(_mm256_extracti128_si256(odd, 1));
  }

  static void store_f16(uint16_t* to, Value value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow_f16(value));
  }
  static void store_f16(uint16_t* to, Value value, int64_t count) { store_halves(to, narrow_f16(value), count); }
  static void store_bf16(uint16_t* to, Value value) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), narrow_bf16(value));
  }
  static void store_bf16(uint16_t* to, Value value, int64_t count) { store_halves(to, narrow_bf16(value), count); }

  static Value add(Value a, Value b) { return _mm256_add_ps(a, b); }
  static Value subtract(Value a, Value b) { return _mm256_sub_ps(a, b); }
  static Value multiply(Value a, Value b) { return _mm256_mul_ps(a, b); }
  static Value divide(Value a, Value b) { return _mm256_div_ps(a, b); }
  static Value multiply_add(Value a, Value b, Value c) { return _mm256_fmadd_ps(a, b, c); }
  static Value maximum(Value a, Value b) { return _mm256_max_ps(a, b); }
  static float first(Value value) { return _mm256_cvtss_f32(value); }
  static float sum(Value value) {
    const __m128 four = fold(value);
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }
  static float largest(Value value) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  static void sum4(Value a, Value b, Value c, Value d, float* to) {
    _mm_storeu_ps(to, fold(_mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d))));
  }

  static Value exp(Value x) {
    x = _mm256_min_ps(_mm256_set1_ps(89.0f), _mm256_max_ps(_mm256_set1_ps(-89.0f), x));
    const Value whole = nearest(_mm256_mul_ps(x, _mm256_set1_ps(1.44269502e+00f)));
    Value part = _mm256_fmsub_ps(x, _mm256_set1_ps(1.44269502e+00f), whole);
    part = _mm256_fmadd_ps(x, _mm256_set1_ps(1.92596303e-08f), part);
    return scaled_exp2(part, whole);
  }
  static Value exp2(Value x) {
    x = _mm256_min_ps(_mm256_set1_ps(129.0f), _mm256_max_ps(_mm256_set1_ps(-129.0f), x));
    const Value whole = nearest(x);
    return scaled_exp2(_mm256_sub_ps(x, whole), whole);
  }

  static void keep_in_register(Value& value) { asm("" : "+x"(value)); }

  // Transposes an 8 x 8 matrix whose rows are v[0..7].
  static void transpose(Value* v) {
    Value t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    // 4x4 blocks: v[i + j] holds, in 128-bit lane L, column 4L + j of rows i..i+3.
    for (int i = 0; i < 8; i += 4) {
      v[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      v[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
      v[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      v[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    for (int j = 0; j < 4; ++j) {
      t[j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x20);
      t[4 + j] = _mm256_permute2f128_ps(v[j], v[4 + j], 0x31);
    }
    for (int i = 0; i < 8; ++i) v[i] = t[i];
  }

 private:
  static __m256i lanes(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m128i load_halves(const uint16_t* from, int64_t count) {
    alignas(16) uint16_t halves[8] = {};
    for (int64_t i = 0; i < count; ++i) halves[i] = from[i];
    return _mm_load_si128(reinterpret_cast<const __m128i*>(halves));
  }
  static void store_halves(uint16_t* to, __m128i value, int64_t count) {
    alignas(16) uint16_t halves[8];
    _mm_store_si128(reinterpret_cast<__m128i*>(halves), value);
    for (int64_t i = 0; i < count; ++i) to[i] = halves[i];
  }

  static __m256i halves_of_e4m3(__m256i upper_bytes) {
    return _mm256_and_si256(_mm256_srai_epi16(upper_bytes, 1), _mm256_set1_epi16(static_cast<short>(0xbf80)));
  }
  static Value widen_bf16(__m128i halves) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
  }
  // Clamps to the limits; infinity becomes NaN. With a NaN operand max and min return the second one, so NaN passes
  // through; value - value is zero, which changes no bit, or NaN.
  static Value clamp(Value value, float limit) {
    const Value within = _mm256_min_ps(_mm256_set1_ps(limit), _mm256_max_ps(_mm256_set1_ps(-limit), value));
    return _mm256_or_ps(within, _mm256_sub_ps(value, value));
  }
  static __m128i narrow_f16(Value value) {
    return _mm256_cvtps_ph(clamp(value, 65504.0f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static __m128i narrow_bf16(Value value) {
    value = clamp(value, 3.38953139e38f);
    const __m256i bits = _mm256_castps_si256(value);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(value, value, _CMP_UNORD_Q));
    const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
  }

  static __m128 fold(Value value) { return _mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1)); }

  static Value nearest(Value x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

  static Value power_of_two(__m256i exponent) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
  }
  static Value scaled_exp2(Value part, Value whole) {
    Value p = _mm256_set1_ps(1.53533620e-04f);
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(1.33988739e-03f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(9.61843692e-03f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(5.55033237e-02f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(2.40226477e-01f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(6.93147182e-01f));
    p = _mm256_fmadd_ps(p, part, _mm256_set1_ps(1.0f));
    // 2^whole in two factors: 2^128 is not a float, but 2^128 * 0.99 is. Lanes that are masked out below must not
    // become denormal on the way: those are slow.
    const __m256i exponent = _mm256_cvtps_epi32(_mm256_max_ps(_mm256_set1_ps(-126.0f), whole));
    const __m256i half = _mm256_srai_epi32(exponent, 1);
    const Value scaled =
        _mm256_mul_ps(_mm256_mul_ps(p, power_of_two(half)), power_of_two(_mm256_sub_epi32(exponent, half)));
    const Value normal = _mm256_cmp_ps(whole, _mm256_set1_ps(-126.0f), _CMP_NLT_UQ);
    return _mm256_and_ps(scaled, normal);
  }
};

// Eight 32-bit integers, or sixteen 16-bit ones.
struct Integers {
  using Value = __m256i;
  static constexpr int width = 8;

  static Value zero() { return _mm256_setzero_si256(); }
  static Value broadcast(int32_t value) { return _mm256_set1_epi32(value); }
  static Value load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
  static void store(void* to, Value value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
  static Value load_bytes(const uint8_t* from) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector::Value to_floats(Value value) { return _mm256_cvtepi32_ps(value); }
  static Value look_up(const uint8_t* table, Value indices) {
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
                               indices);
  }

  static Value bit_and(Value a, Value b) { return _mm256_and_si256(a, b); }
  static Value bit_or(Value a, Value b) { return _mm256_or_si256(a, b); }
  template <int count>
  static Value shift_right_16(Value value) {
    return _mm256_srli_epi16(value, count);
  }
  template <int count>
  static Value shift_left_32(Value value) {
    return _mm256_slli_epi32(value, count);
  }
  template <int count>
  static Value shift_right_32(Value value) {
    return _mm256_srli_epi32(value, count);
  }

  static Value subtract_16(Value a, Value b) { return _mm256_sub_epi16(a, b); }
  static Value add(Value a, Value b) { return _mm256_add_epi32(a, b); }
  static Value subtract(Value a, Value b) { return _mm256_sub_epi32(a, b); }
  static Value multiply(Value a, Value b) { return _mm256_mullo_epi32(a, b); }
  // vpmaddwd cannot saturate (no activation code is -32768), as the 8-bit vpmaddubsw could, and needs no more
  // instructions a product.
  static Value add_products(Value sum, Value a, Value b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

  static void keep_in_register(Value& value) { asm("" : "+x"(value)); }
};

}  // namespace
}  // namespace billfish::cpu
