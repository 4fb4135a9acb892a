// Numbers for tests of kernels: random ones, and 16-bit types as bits on the host.
#pragma once
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "engine/dtype.h"

inline std::vector<float> random_floats(int64_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

inline uint16_t narrow(billfish::DType type, float value) {
  return type == billfish::DType::f16 ? billfish::float_to_f16(value) : billfish::float_to_bf16(value);
}
inline float widen(billfish::DType type, uint16_t bits) {
  return type == billfish::DType::f16 ? billfish::f16_to_float(bits) : billfish::bf16_to_float(bits);
}
inline std::vector<uint16_t> narrow(billfish::DType type, const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  for (const float value : values) bits.push_back(narrow(type, value));
  return bits;
}
inline std::vector<float> widen(billfish::DType type, const std::vector<uint16_t>& bits) {
  std::vector<float> values;
  for (const uint16_t value : bits) values.push_back(widen(type, value));
  return values;
}

// The most that rounding to the type changes a number, relatively (numbers that the type does not hold as subnormals).
inline double rounding(billfish::DType type) { return type == billfish::DType::f16 ? 0x1p-11 : 0x1p-8; }

// What 16-bit floating-point numbers mean, and which of them is nearest to a number: by the definition, not by bit
// tricks.
struct Float16Format {
  int exponent_bits, mantissa_bits;

  uint16_t infinity() const { return static_cast<uint16_t>(((1 << exponent_bits) - 1) << mantissa_bits); }

  double value(uint16_t bits) const {
    const int bias = (1 << (exponent_bits - 1)) - 1, exponent = (bits & 0x7fff) >> mantissa_bits;
    const double mantissa = std::ldexp(bits & ((1 << mantissa_bits) - 1), -mantissa_bits);
    const double sign = (bits & 0x8000) != 0 ? -1 : 1;
    if ((bits & 0x7fff) == infinity()) return sign * INFINITY;
    if ((bits & 0x7fff) > infinity()) return NAN;
    return exponent == 0 ? sign * std::ldexp(mantissa, 1 - bias) : sign * std::ldexp(1 + mantissa, exponent - bias);
  }

  // Ties to even. A NaN gives a NaN.
  uint16_t nearest(long double exact) const {
    if (std::isnan(exact)) return 0x7fff;
    const auto sign = static_cast<uint16_t>(std::signbit(exact) ? 0x8000 : 0);
    const long double size = std::fabs(exact);
    // Magnitudes grow with their bits; infinity stands where the number after the largest would be.
    const auto magnitude = [&](int bits) -> long double {
      if (bits < infinity()) return value(static_cast<uint16_t>(bits));
      return std::ldexp(1.0L, 1 << (exponent_bits - 1));
    };
    int low = 0;
    for (int step = 0x4000; step > 0; step /= 2) {
      if (low + step <= infinity() && magnitude(low + step) <= size) low += step;
    }
    if (low < infinity()) {
      const long double below = size - magnitude(low), above = magnitude(low + 1) - size;
      if (below > above || (below == above && low % 2 == 1)) ++low;
    }
    return static_cast<uint16_t>(low | sign);
  }

  // Whether two results are one number: any NaN is as good as another, and so are zeros.
  bool same(uint16_t a, uint16_t b) const {
    if (std::isnan(value(a))) return std::isnan(value(b));
    return a == b || ((a | b) & 0x7fff) == 0;
  }
};

constexpr Float16Format half_format{5, 10}, bfloat16_format{8, 7};
