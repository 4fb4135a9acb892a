// Numbers for tests of kernels: random ones, and 16-bit types as bits on the host.
#pragma once
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
