// Sixteen 32-bit integers, or thirty-two 16-bit ones. Only kernels_avx512.cc includes this.
#pragma once
#include <cstdint>

#include "cpu/vector_avx512.h"

namespace billfish::cpu {
namespace {

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

  static void keep_in_register(Value& value) { asm("" : "+v"(value)); }
};

}  // namespace
}  // namespace billfish::cpu
