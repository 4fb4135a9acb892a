// What 16-bit floating-point numbers mean, and which of them is nearest to a number: by the definition, not by bit
// tricks.
#pragma once
#include <cmath>
#include <cstdint>

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
