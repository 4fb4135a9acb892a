// Float math in the emulator: the C library's functions, also for the *_approx ones.
#pragma once
#include <bit>
#include <cmath>
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

template <class T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
template <class T>
constexpr T ceil_div(T a, T b) {
  return (a + b - 1) / b;
}

constexpr float infinity = __builtin_huge_valf();

inline float fused_multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
inline float add_rounded(float a, float b) { return a + b; }
inline float multiply_rounded(float a, float b) { return a * b; }
inline float square_root(float x) { return std::sqrt(x); }
inline float exp(float x) { return std::exp(x); }
inline float log(float x) { return std::log(x); }
inline float sin(float x) { return std::sin(x); }
inline float cos(float x) { return std::cos(x); }
inline float erf(float x) { return std::erf(x); }
inline float tanh(float x) { return std::tanh(x); }

inline float exp2_approx(float x) { return std::exp2(x); }

// --- Bits.

template <int table>
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t out = 0;
  if constexpr ((table & 0x01) != 0) out |= ~a & ~b & ~c;
  if constexpr ((table & 0x02) != 0) out |= ~a & ~b & c;
  if constexpr ((table & 0x04) != 0) out |= ~a & b & ~c;
  if constexpr ((table & 0x08) != 0) out |= ~a & b & c;
  if constexpr ((table & 0x10) != 0) out |= a & ~b & ~c;
  if constexpr ((table & 0x20) != 0) out |= a & ~b & c;
  if constexpr ((table & 0x40) != 0) out |= a & b & ~c;
  if constexpr ((table & 0x80) != 0) out |= a & b & c;
  return out;
}

inline uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> (4 * i) & 0xf;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (choice & 7))) & 0xff;
    if ((choice & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

inline int find_first_set(uint32_t x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }

}  // namespace billfish::BILLFISH_TARGET
