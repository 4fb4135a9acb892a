// What a canonical linear means, spelled out: fp32 weights in the layer's own order of inputs.
#pragma once
#include <vector>

#include "engine/canonical.h"

namespace fixtures {

inline float scale_at(const billfish::CanonicalShape& shape, const billfish::CanonicalRows& rows, int64_t i) {
  if (shape.scale_type == billfish::DType::f32) {
    float scale;
    std::memcpy(&scale, rows.scales.data() + 4 * i, 4);
    return scale;
  }
  uint16_t half;
  std::memcpy(&half, rows.scales.data() + 2 * i, 2);
  return shape.scale_type == billfish::DType::f16 ? billfish::f16_to_float(half) : billfish::bf16_to_float(half);
}

// [count][in]
inline std::vector<float> dequantize(const billfish::CanonicalShape& shape, const billfish::CanonicalRows& rows) {
  const int64_t words = shape.words_per_row(), groups = shape.groups(), per_word = 32 / shape.bits;
  std::vector<float> weights(rows.count * shape.in);
  for (int64_t row = 0; row < rows.count; ++row) {
    for (int64_t k = 0; k < shape.in; ++k) {
      const int64_t group = row * groups + k / shape.group_size;
      const uint32_t word = rows.codes[row * words + k / per_word];
      const int code = static_cast<int>(word >> (k % per_word * shape.bits) & ((1u << shape.bits) - 1));
      const int zero = shape.has_zero_points ? rows.zeros[group] : 1 << (shape.bits - 1);
      const int64_t input = shape.order.empty() ? k : shape.order[k];
      weights[row * shape.in + input] = scale_at(shape, rows, group) * static_cast<float>(code - zero);
    }
  }
  return weights;
}

// [out][in], read in slabs of 64 rows as a loader does.
inline std::vector<float> dequantize(const billfish::CanonicalSource& source) {
  const billfish::CanonicalShape& shape = source.shape();
  std::vector<float> weights;
  billfish::CanonicalRows rows;
  for (int64_t first = 0; first < shape.out; first += 64) {
    source.read(first, std::min<int64_t>(64, shape.out - first), rows);
    const std::vector<float> part = dequantize(shape, rows);
    weights.insert(weights.end(), part.begin(), part.end());
  }
  return weights;
}

}  // namespace fixtures
