// Float math in the emulator: the C library's functions, also for the *_approx ones.
#pragma once
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
inline float absolute(float x) { return std::fabs(x); }
inline float square_root(float x) { return std::sqrt(x); }
inline float exp(float x) { return std::exp(x); }
inline float log(float x) { return std::log(x); }
inline float sin(float x) { return std::sin(x); }
inline float cos(float x) { return std::cos(x); }
inline float erf(float x) { return std::erf(x); }
inline float tanh(float x) { return std::tanh(x); }
inline int round_to_int(float x) {
  if (std::isnan(x)) return 0;
  if (x >= 0x1p31f) return INT32_MAX;
  if (x < -0x1p31f) return INT32_MIN;
  return static_cast<int>(std::nearbyint(x));
}

inline float exp2_approx(float x) { return std::exp2(x); }
inline float log2_approx(float x) { return std::log2(x); }
inline float exp_approx(float x) { return exp2_approx(x * 1.44269504f); }
inline float reciprocal_approx(float x) { return 1.0f / x; }
inline float reciprocal_square_root(float x) { return 1.0f / std::sqrt(x); }
inline float divide_approx(float a, float b) { return a / b; }
inline float tanh_approx(float x) { return std::tanh(x); }

}  // namespace billfish::BILLFISH_TARGET
