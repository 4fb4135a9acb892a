// Functions of floats, and bit operations that are a single instruction on a GPU. exp2_approx is the hardware's
// fast version (some 1e-6 relative; results of emulator and GPU differ in the last bits); the others are correctly
// rounded or as good as CUDA's libm.
#pragma once
#include <math_constants.h>

#include <cstdint>

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
DEVICE float square_root(float x) { return __fsqrt_rn(x); }
DEVICE float exp(float x) { return expf(x); }
DEVICE float log(float x) { return logf(x); }
DEVICE float sin(float x) { return sinf(x); }
DEVICE float cos(float x) { return cosf(x); }
DEVICE float erf(float x) { return erff(x); }
DEVICE float tanh(float x) { return tanhf(x); }

DEVICE float exp2_approx(float x) {
  float out;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(out) : "f"(x));
  return out;
}

// --- Bits.

// Any function of three bits, bit by bit: bit (a << 2 | b << 1 | c) of `table` is the result. Compute the table by
// applying the function to 0xf0, 0xcc and 0xaa: (a & b) | c is lop3<(0xf0 & 0xcc) | 0xaa>.
template <int table>
DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(out) : "r"(a), "r"(b), "r"(c), "n"(table));
  return out;
}

// Four bytes out of the eight of b:a (a holds bytes 0 to 3): nibble i of `selector` names byte i of the result; its bit
// 3 takes the byte's sign, eight times.
DEVICE uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t out;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(selector));
  return out;
}

DEVICE int find_first_set(uint32_t x) { return __ffs(static_cast<int>(x)); }  // 1 for bit 0; 0 if none is set

}  // namespace billfish::BILLFISH_TARGET
