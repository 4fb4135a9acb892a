// Cosines and sines for a step's rotary embeddings.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

struct RopeTableInput {
  const int32_t* positions;      // [rows]
  const int32_t* row_sequence;   // [rows], -1: padding
  const void* spans;             // DeviceSpan[sequences]
  const float* own_frequencies;  // [half], the program's
  const float* frequencies;      // [sets][half], those of sequences with a base of their own
  float scale;
};

// angle[r, i] = float(position[r]) * frequency[i], rounded to fp32 as PyTorch does; table[r] = { cos[0..half),
// sin[0..half) } * scale. table.columns is 2 * half.
void compute_rope_table(Stream& stream, const RopeTableInput& input, const Matrix<float>& table);

}  // namespace billfish::BILLFISH_TARGET
