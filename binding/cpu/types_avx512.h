// The types over which *_body.h and row_kernels.h write what the instruction sets do alike, in AVX-512.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace billfish::cpu {
namespace {

// Sixteen floats.
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

  // `width` scales: e4m3, times 2^-8, and e8m0.
  static Value load_e4m3(const uint8_t* from) {
    const __m256i bytes = _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm512_cvtph_ps(halves_of_e4m3(_mm256_slli_epi16(bytes, 8)));
  }
  static Value load_e8m0(const uint8_t* from) {
    const __m512i codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_slli_epi32(codes, 23), _mm512_set1_epi32(0x00400000)));
  }
  // 32 codes, of two inputs of the 16 outputs of a tile (quantized_linear.h), as floats times 2^-8: first[] and
  // second[] are as many vectors as hold 16 outputs. The bits  s eeee mmm  are moved into a half's  s 0eeee mmm0000000,
  // which is 2^8 too small, subnormals as well; the sign's copy of the arithmetic shift is masked out.
  static void load_e4m3(const uint8_t* from, Value* first, Value* second) {
    const __m256i pairs = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    *first = _mm512_cvtph_ps(halves_of_e4m3(_mm256_slli_epi16(pairs, 8)));
    *second = _mm512_cvtph_ps(halves_of_e4m3(pairs));
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

  static __m256i halves_of_e4m3(__m256i upper_bytes) {
    return _mm256_and_si256(_mm256_srai_epi16(upper_bytes, 1), _mm256_set1_epi16(static_cast<short>(0xbf80)));
  }
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

// Sixteen 32-bit integers, or thirty-two 16-bit ones.
struct Integers {
  using Value = __m512i;
  static constexpr int width = 16;  // 32-bit lanes

  static Value zero() { return _mm512_setzero_si512(); }
  static Value broadcast(int32_t value) { return _mm512_set1_epi32(value); }
  static Value load(const void* from) { return _mm512_loadu_si512(from); }
  static void store(void* to, Value value) { _mm512_storeu_si512(to, value); }
  // `width` bytes, a lane each.
  static Value load_bytes(const uint8_t* from) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
  }
  static Vector::Value to_floats(Value value) { return _mm512_cvtepi32_ps(value); }
  // Byte i is table[byte i of `indices`], of 16.
  static Value look_up(const uint8_t* table, Value indices) {
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))),
                               indices);
  }

  static Value bit_and(Value a, Value b) { return _mm512_and_si512(a, b); }
  static Value bit_or(Value a, Value b) { return _mm512_or_si512(a, b); }
  template <unsigned count>
  static Value shift_right_16(Value value) {
    return _mm512_srli_epi16(value, count);
  }
  template <unsigned count>
  static Value shift_left_32(Value value) {
    return _mm512_slli_epi32(value, count);
  }
  template <unsigned count>
  static Value shift_right_32(Value value) {
    return _mm512_srli_epi32(value, count);
  }

  static Value subtract_16(Value a, Value b) { return _mm512_sub_epi16(a, b); }
  static Value add(Value a, Value b) { return _mm512_add_epi32(a, b); }
  static Value subtract(Value a, Value b) { return _mm512_sub_epi32(a, b); }
  static Value multiply(Value a, Value b) { return _mm512_mullo_epi32(a, b); }
  // 16-bit activations with vpdpwssd cost as much as two passes of the 8-bit vpdpbusd would.
  static Value add_products(Value sum, Value a, Value b) { return _mm512_dpwssd_epi32(sum, a, b); }

  // Bytes without a sign times bytes with one, four products a lane.
  static Value add_byte_products(Value sum, Value a, Value b) { return _mm512_dpbusd_epi32(sum, a, b); }

  // Eight 16-bit integers in the order 0 2 4 6 1 3 5 7 become  high 0 .. 7 | low 0 .. 7, where integer = 256 * high +
  // low and both are bytes with a sign.
  static void split_eight(int16_t* codes) {
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes));
    const __m128i low = _mm_srai_epi16(_mm_slli_epi16(values, 8), 8);
    const __m128i high = _mm_sub_epi16(values, low);  // times 256
    const __m128i both = _mm_or_si128(high, _mm_and_si128(low, _mm_set1_epi16(0xff)));
    const __m128i order = _mm_setr_epi8(1, 9, 3, 11, 5, 13, 7, 15, 0, 8, 2, 10, 4, 12, 6, 14);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes), _mm_shuffle_epi8(both, order));
  }

  static void keep_in_register(Value& value) { asm("" : "+v"(value)); }
};

}  // namespace
}  // namespace billfish::cpu
