#include "cpu/linear.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {

double matrix_element(const Matrix& matrix, int64_t n, int64_t k) {
  const int64_t index = n * matrix.in + k;
  if (matrix.type == DType::f32) return static_cast<const float*>(matrix.data)[index];
  const uint16_t half = static_cast<const uint16_t*>(matrix.data)[index];
  return matrix.type == DType::f16 ? f16_to_float(half) : bf16_to_float(half);
}

}  // namespace

void linear_reference(const LinearCall& call, const Rows& x, double* out, int64_t stride) {
  if (call.matrix != nullptr) {
    const Matrix& matrix = *call.matrix;
    for (int64_t r = 0; r < x.rows; ++r) {
      for (int64_t n = 0; n < matrix.out; ++n) {
        double sum = matrix.bias != nullptr ? matrix.bias[n] : 0.0;
        for (int64_t k = 0; k < matrix.in; ++k) sum += x.data[r * x.stride + k] * matrix_element(matrix, n, k);
        out[r * stride + n] = sum;
      }
    }
    return;
  }
  const QuantizedLinear& linear = *call.quantized;
  const PackedWeights weights = packed_weights(linear);
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < linear.out; ++n) {
      double sum = linear.bias != nullptr ? linear.bias[n] : 0.0;
      for (int64_t k = 0; k < linear.in; ++k) {
        const int64_t group = k / linear.group_size;
        const int64_t input = linear.order == nullptr ? k : linear.order[k];
        const int code = packed_code(weights, n, k) - packed_zero(weights, n, group);
        sum += static_cast<double>(packed_scale(weights, n, group)) * code * x.data[r * x.stride + input];
      }
      out[r * stride + n] = sum;
    }
  }
}

}  // namespace billfish::cpu
