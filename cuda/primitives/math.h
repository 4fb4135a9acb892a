// Functions of floats. *_approx are the hardware's fast versions (some 1e-6 relative; results of emulator and GPU
// differ in the last bits); the others are correctly rounded or as good as CUDA's libm.
#pragma once
#include <math_constants.h>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

template <class T>
HOST_DEVICE constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
HOST_DEVICE constexpr T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
HOST_DEVICE constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

constexpr float infinity = __builtin_huge_valf();

DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
// Rounded separately: nvcc contracts * and + into fused multiply-adds where it can.
DEVICE float add_rounded(float a, float b) { return __fadd_rn(a, b); }
DEVICE float multiply_rounded(float a, float b) { return __fmul_rn(a, b); }
DEVICE float absolute(float x) { return fabsf(x); }
DEVICE float square_root(float x) { return __fsqrt_rn(x); }
DEVICE float exp(float x) { return expf(x); }
DEVICE float log(float x) { return logf(x); }
DEVICE float sin(float x) { return sinf(x); }
DEVICE float cos(float x) { return cosf(x); }
DEVICE float erf(float x) { return erff(x); }
DEVICE float tanh(float x) { return tanhf(x); }
DEVICE int round_to_int(float x) { return __float2int_rn(x); }  // to nearest even, saturating

DEVICE float exp2_approx(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
DEVICE float log2_approx(float x) {
  float out;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
DEVICE float exp_approx(float x) { return exp2_approx(x * 1.44269504f); }
DEVICE float reciprocal_approx(float x) {
  float out;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}
DEVICE float reciprocal_square_root(float x) { return rsqrtf(x); }
DEVICE float divide_approx(float a, float b) { return __fdividef(a, b); }
DEVICE float tanh_approx(float x) {
  float out;
  asm("tanh.approx.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

}  // namespace billfish::BILLFISH_TARGET
