// Eight 32-bit integers, or sixteen 16-bit ones. Only kernels_avx2.cc includes this. integers_avx512.h documents the
// functions.
#pragma once
#include <cstdint>

#include "cpu/vector_avx2.h"

namespace billfish::cpu {
namespace {

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
