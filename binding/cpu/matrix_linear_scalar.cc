// Unquantized linears in plain loops, and what runs where there is no SIMD version.
#include <algorithm>

#include "cpu/linear_kernels.h"

namespace billfish::cpu {
namespace {

float element(const MatrixWeights& weights, int64_t n, int64_t k) {
  const int64_t index = n * weights.in + k;
  switch (weights.type) {
    case DType::f32:
      return static_cast<const float*>(weights.data)[index];
    case DType::bf16:
      return bf16_to_float(static_cast<const uint16_t*>(weights.data)[index]);
    default:
      return f16_to_float(static_cast<const uint16_t*>(weights.data)[index]);
  }
}

void gemv(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
          float* out, int64_t stride) {
  // Sixteen partial sums, as a vector would have: a single chain over thousands of inputs would lose digits.
  constexpr int64_t lanes = 16;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      float partial[lanes] = {};
      for (int64_t first = 0; first < weights.in; first += segment_inputs) {
        const int64_t count = std::min(segment_inputs, weights.in - first);
        const float* const segment = x + first * rows + r * count;
        for (int64_t k = 0; k < count; ++k) partial[k % lanes] += segment[k] * element(weights, n, first + k);
      }
      float sum = weights.bias != nullptr ? weights.bias[n] : 0.0f;
      for (int64_t lane = 0; lane < lanes; ++lane) sum += partial[lane];
      out[r * stride + n] = sum;
    }
  }
}

void transpose(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  const int64_t outputs = std::min(panel_outputs, weights.out - first_output);
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t k = 0; k < count; ++k) panel[k * panel_outputs + n] = element(weights, first_output + n, first + k);
  }
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t rows, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    float partial[panel_outputs] = {};
    for (int64_t k = 0; k < count; ++k) {
      const float value = x[r * count + k];
      for (int64_t n = 0; n < panel_outputs; ++n) partial[n] += value * panel[k * panel_outputs + n];
    }
    for (int64_t n = 0; n < panel_outputs; ++n) sums[r * panel_outputs + n] += partial[n];
  }
}

}  // namespace

const MatrixKernels matrix_scalar = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
