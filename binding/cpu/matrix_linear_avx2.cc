// Unquantized linears with AVX2, in fp32.
#if defined(__x86_64__)
#include "cpu/vector_avx2.h"
// The vector type comes first.
#include "cpu/matrix_linear_body.h"

namespace billfish::cpu {
namespace {

// Weight row n times rows first_row, first_row + 1, ... of x, in Chains sums of 8 lanes each, so that few rows still
// hide the latency of the multiply-add: I / Chains is the row, I % Chains the sum.
template <DType Type, int Chains, int... I>
void dot(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t n, const float* x, int64_t x_rows,
         int64_t first_row, float* out, int64_t stride) {
  constexpr int rows = sizeof...(I) / Chains;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes<Type>;
  Value sums[sizeof...(I)];
  ((sums[I] = Vector::zero()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t count = smaller(segment_inputs, weights.in - first);
    const float* const segment = x + first * x_rows + first_row * count;
    const uint8_t* const w = data + first * element_bytes<Type>;
    int64_t k = 0;
    for (; k + 8 * Chains <= count; k += 8 * Chains) {
      ((sums[I] = Vector::multiply_add(Vector::load(segment + I / Chains * count + k + I % Chains * 8),
                                       load<Type>(w + (k + I % Chains * 8) * element_bytes<Type>), sums[I])),
       ...);
      (Vector::keep_in_register(sums[I]), ...);
      for (int64_t at = 0; at < 8 * Chains * element_bytes<Type>; at += 64) {
        __builtin_prefetch(w + k * element_bytes<Type> + fetch_ahead + at);
      }
    }
    for (; k < count; k += 8) {
      const Value weight = load<Type>(w + k * element_bytes<Type>, count - k);
      for (int r = 0; r < rows; ++r) {
        const uint8_t* const values = reinterpret_cast<const uint8_t*>(segment + r * count + k);
        sums[r * Chains] = Vector::multiply_add(load<DType::f32>(values, count - k), weight, sums[r * Chains]);
      }
    }
  }
  const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
  for (int r = 0; r < rows; ++r) {
    Value sum = sums[r * Chains];
    for (int c = 1; c < Chains; ++c) sum = Vector::add(sum, sums[r * Chains + c]);
    out[(first_row + r) * stride + n] = Vector::sum(sum) + bias;
  }
}

template <DType Type, int Rows, int Chains>
void dot_rows(const MatrixWeights& weights, int64_t n, const float* x, int64_t x_rows, int64_t first_row, float* out,
              int64_t stride) {
  dot<Type, Chains>(std::make_integer_sequence<int, Rows * Chains>{}, weights, n, x, x_rows, first_row, out, stride);
}

template <DType Type>
void gemv_typed(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  using Dot = void (*)(const MatrixWeights&, int64_t, const float*, int64_t, int64_t, float*, int64_t);
  constexpr Dot dot_of[] = {nullptr, dot_rows<Type, 1, 8>, dot_rows<Type, 2, 4>, dot_rows<Type, 3, 2>,
                            dot_rows<Type, 4, 2>};
  constexpr int64_t rows_at_once = 4;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t row = 0; row < rows; row += rows_at_once) {
      dot_of[smaller(rows_at_once, rows - row)](weights, n, x, rows, row, out, stride);
    }
  }
}

void gemv(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
          float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, rows, first_output, last_output, out, stride);
}

}  // namespace

const MatrixKernels matrix_avx2 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
