// half and bfloat16 as bits, with IEEE arithmetic: every operation is exact, then rounded once to nearest even.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

struct half {
  uint16_t bits;
};
struct bfloat16 {
  uint16_t bits;
};
struct alignas(4) half2 {
  half x, y;
};
struct alignas(4) bfloat162 {
  bfloat16 x, y;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) int2 {
  int32_t x, y;
};
struct alignas(16) int4 {
  int32_t x, y, z, w;
};
struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

template <class T>
struct PairOf;
template <>
struct PairOf<half> {
  using Type = half2;
};
template <>
struct PairOf<bfloat16> {
  using Type = bfloat162;
};
template <class T>
using Pair = typename PairOf<T>::Type;

template <class To, class From>
To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(static_cast<void*>(&to), static_cast<const void*>(&from), sizeof(To));
  return to;
}

// --- Conversions.
inline float to_float(float x) { return x; }

//   half   s eeeee mmmmmmmmmm          exponent bias 15
//   float  s eeeeeeee mmmmmmmmmm0...   exponent bias 127: shifted into place it is 2^112 too small, subnormals as well
inline float to_float(half x) {
  const uint32_t magnitude = uint32_t{x.bits & 0x7fffu} << 13, sign = uint32_t{x.bits & 0x8000u} << 16;
  const auto scaled = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
  const uint32_t special = magnitude >= 0x0f800000u ? 0x7f800000u : 0;  // infinity and NaN keep their mantissa
  return bit_cast<float>(scaled | special | sign);
}
inline float to_float(bfloat16 x) { return bit_cast<float>(uint32_t{x.bits} << 16); }
inline float2 to_float2(half2 x) { return {to_float(x.x), to_float(x.y)}; }
inline float2 to_float2(bfloat162 x) { return {to_float(x.x), to_float(x.y)}; }

template <class T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
  return x;
}
template <>
inline half from_float<half>(float x) {
  const auto bits = bit_cast<uint32_t>(x);
  const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t result;
  if (magnitude > 0x7f800000u) {
    return {0x7fff};                      // the NaN that GPUs make
  } else if (magnitude >= 0x477ff000u) {  // 65520: halfway between the largest half and what would follow
    result = 0x7c00;
  } else if (magnitude < 0x38800000u) {  // below 2^-14: a half's last bit is 2^-24, as a float's is in [0.5, 1)
    result = bit_cast<uint32_t>(bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  } else {
    result = (magnitude + 0xfffu + (magnitude >> 13 & 1) - 0x38000000u) >> 13;
  }
  return {static_cast<uint16_t>(sign | result)};
}
template <>
inline bfloat16 from_float<bfloat16>(float x) {
  const auto bits = bit_cast<uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16)};
}

template <class T>
Pair<T> pair_from_floats(float x, float y) {
  return {from_float<T>(x), from_float<T>(y)};
}
inline half2 make_pair_of(half x, half y) { return {x, y}; }
inline bfloat162 make_pair_of(bfloat16 x, bfloat16 y) { return {x, y}; }
inline half2 both(half x) { return {x, x}; }
inline bfloat162 both(bfloat16 x) { return {x, x}; }

// --- Arithmetic. A float has more than twice a half's bits and two more, so rounding a float difference
// to half equals rounding the exact result.
inline half2 sub2(half2 a, half2 b) {
  return pair_from_floats<half>(to_float(a.x) - to_float(b.x), to_float(a.y) - to_float(b.y));
}
inline bfloat162 sub2(bfloat162 a, bfloat162 b) {
  return pair_from_floats<bfloat16>(to_float(a.x) - to_float(b.x), to_float(a.y) - to_float(b.y));
}

// a * b + c rounded to odd: a float whose last bit is 1 whenever something was cut off, so that rounding it further to
// half or bfloat16 is as if from the exact result. The product is exact in double; the sum's error is found exactly.
inline float fused_to_odd(float a, float b, float c) {
  const double product = double{a} * double{b}, addend = c;
  const double sum = product + addend;
  if (!std::isfinite(sum)) return static_cast<float>(sum);
  const double back = sum - product;
  const double error = (product - (sum - back)) + (addend - back);
  double exact_or_odd = sum;
  if (error != 0 && (bit_cast<uint64_t>(sum) & 1) == 0) {
    exact_or_odd = std::nextafter(sum, error > 0 ? INFINITY : -INFINITY);
  }
  float result = static_cast<float>(exact_or_odd);
  if (double{result} != exact_or_odd && std::isfinite(result) && (bit_cast<uint32_t>(result) & 1) == 0) {
    result = std::nextafter(result, exact_or_odd > double{result} ? INFINITY : -INFINITY);
  }
  return result;
}
inline half2 fma2(half2 a, half2 b, half2 c) {
  return pair_from_floats<half>(fused_to_odd(to_float(a.x), to_float(b.x), to_float(c.x)),
                                fused_to_odd(to_float(a.y), to_float(b.y), to_float(c.y)));
}
inline bfloat162 fma2(bfloat162 a, bfloat162 b, bfloat162 c) {
  return pair_from_floats<bfloat16>(fused_to_odd(to_float(a.x), to_float(b.x), to_float(c.x)),
                                    fused_to_odd(to_float(a.y), to_float(b.y), to_float(c.y)));
}

}  // namespace billfish::BILLFISH_TARGET
