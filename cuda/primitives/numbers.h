// The number types of kernels: half and bfloat16, pairs of them in one 32-bit register, vectors for wide loads.
//
// T is half or bfloat16 below, Pair<T> two of them (`x` is the low half of the register). Arithmetic on pairs is one
// instruction for both and rounds once, to nearest even.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>
#include <cstring>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

using half = ::__half;
using bfloat16 = ::__nv_bfloat16;
using half2 = ::__half2;
using bfloat162 = ::__nv_bfloat162;
using ::float2;
using ::float4;
using ::int2;
using ::int4;
using ::uint2;
using ::uint4;

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

// The same bits as another type of the same size.
template <class To, class From>
HOST_DEVICE To bit_cast(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// --- Conversions. To half and bfloat16: to nearest even; too large becomes infinity.
DEVICE float to_float(float x) { return x; }
DEVICE float to_float(half x) { return __half2float(x); }
DEVICE float to_float(bfloat16 x) { return __bfloat162float(x); }
DEVICE float2 to_float2(half2 x) { return __half22float2(x); }
DEVICE float2 to_float2(bfloat162 x) { return __bfloat1622float2(x); }

template <class T>
DEVICE T from_float(float x);
template <>
DEVICE float from_float<float>(float x) {
  return x;
}
template <>
DEVICE half from_float<half>(float x) {
  return __float2half_rn(x);
}
template <>
DEVICE bfloat16 from_float<bfloat16>(float x) {
  return __float2bfloat16_rn(x);
}

template <class T>
DEVICE Pair<T> pair_from_floats(float x, float y);
template <>
DEVICE half2 pair_from_floats<half>(float x, float y) {
  return __floats2half2_rn(x, y);
}
template <>
DEVICE bfloat162 pair_from_floats<bfloat16>(float x, float y) {
  return __floats2bfloat162_rn(x, y);
}

DEVICE half2 make_pair_of(half x, half y) { return __halves2half2(x, y); }
DEVICE bfloat162 make_pair_of(bfloat16 x, bfloat16 y) { return __halves2bfloat162(x, y); }
DEVICE half2 both(half x) { return __half2half2(x); }
DEVICE bfloat162 both(bfloat16 x) { return __bfloat162bfloat162(x); }

// --- Arithmetic of pairs.
DEVICE half2 sub2(half2 a, half2 b) { return __hsub2_rn(a, b); }
DEVICE half2 fma2(half2 a, half2 b, half2 c) { return __hfma2(a, b, c); }  // a * b + c
DEVICE bfloat162 sub2(bfloat162 a, bfloat162 b) { return __hsub2_rn(a, b); }
DEVICE bfloat162 fma2(bfloat162 a, bfloat162 b, bfloat162 c) { return __hfma2(a, b, c); }

}  // namespace billfish::BILLFISH_TARGET
