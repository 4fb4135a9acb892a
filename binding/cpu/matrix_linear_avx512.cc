// Unquantized linears with AVX-512, in fp32.
#if defined(__x86_64__)
#include "cpu/vector_avx512.h"
// The vector type comes first.
#include "cpu/matrix_linear_body.h"

namespace billfish::cpu {
namespace {

// One row of x times weight row n: straight from memory, in eight sums that hide the latency of the multiply-add. One
// weight row at a time, because memory is read fastest in a single stream: streams that are a power of two apart fall
// on the same sets of the cache and are read at half the speed.
template <DType Type, int... I>
float dot(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t n, const float* x) {
  constexpr int64_t step = 16 * sizeof...(I);
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + n * weights.in * element_bytes<Type>;
  Value sums[sizeof...(I)];
  ((sums[I] = Vector::zero()), ...);
  int64_t k = 0;
  for (; k + step <= weights.in; k += step) {
    ((sums[I] = Vector::multiply_add(Vector::load(x + k + I * 16),
                                     load<Type>(data + (k + I * 16) * element_bytes<Type>), sums[I])),
     ...);
    for (int64_t line = 0; line < step * element_bytes<Type>; line += 64) {
      __builtin_prefetch(data + k * element_bytes<Type> + fetch_ahead + line);
    }
    (Vector::keep_in_register(sums[I]), ...);
  }
  for (; k < weights.in; k += 16) {
    const Value w = load<Type>(data + k * element_bytes<Type>, weights.in - k);
    sums[0] =
        Vector::multiply_add(load<DType::f32>(reinterpret_cast<const uint8_t*>(x + k), weights.in - k), w, sums[0]);
  }
  for (size_t i = 1; i < sizeof...(I); ++i) sums[0] = Vector::add(sums[0], sums[i]);
  return Vector::sum(sums[0]);
}

// Several rows of x times Outputs weight rows from first_output on: I / Outputs is the row (from first_row on),
// I % Outputs the weight row. The weights come from the first-level cache; meanwhile `next`, as many bytes as they
// have, is fetched into it in one stream.
template <DType Type, int Outputs, int... I>
void multiply_outputs(std::integer_sequence<int, I...>, const MatrixWeights& weights, int64_t first_output,
                      const float* x, int64_t x_rows, int64_t first_row, float* out, int64_t stride,
                      const uint8_t* next) {
  constexpr int64_t step_bytes = 16 * element_bytes<Type>;
  const int64_t row_bytes = weights.in * element_bytes<Type>;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data) + first_output * row_bytes;
  Value totals[sizeof...(I)];
  ((totals[I] = Vector::zero()), ...);
  for (int64_t first = 0; first < weights.in; first += segment_inputs) {
    const int64_t width = weights.in - first < segment_inputs ? weights.in - first : segment_inputs;
    const float* const segment = x + first * x_rows + first_row * width;
    const uint8_t* w = data + first * element_bytes<Type>;
    int64_t k = 0;
    for (; k + 16 <= width; k += 16, w += step_bytes, next += Outputs * step_bytes) {
      ((totals[I] = Vector::multiply_add(Vector::load(segment + I / Outputs * width + k),
                                         load<Type>(w + I % Outputs * row_bytes), totals[I])),
       ...);
      (Vector::keep_in_register(totals[I]), ...);
      for (int64_t line = 0; line < Outputs * step_bytes; line += 64) __builtin_prefetch(next + line);
    }
    if (k < width) {
      ((totals[I] = Vector::multiply_add(Vector::load(segment + I / Outputs * width + k, width - k),
                                         load<Type>(w + I % Outputs * row_bytes, width - k), totals[I])),
       ...);
    }
  }
  const auto write = [&](int64_t row, int64_t n, Value total) {
    const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
    out[row * stride + n] = Vector::sum(total) + bias;
  };
  (write(first_row + I / Outputs, first_output + I % Outputs, totals[I]), ...);
}

template <DType Type, int Rows, int Outputs>
void multiply_rows(const MatrixWeights& weights, int64_t first_output, const float* x, int64_t x_rows,
                   int64_t first_row, float* out, int64_t stride, const uint8_t* next) {
  multiply_outputs<Type, Outputs>(std::make_integer_sequence<int, Rows * Outputs>{}, weights, first_output, x, x_rows,
                                  first_row, out, stride, next);
}

// All rows of x times Outputs weight rows, four rows at a time.
template <DType Type, int Outputs>
void multiply_outputs(const MatrixWeights& weights, int64_t first_output, const float* x, int64_t rows, float* out,
                      int64_t stride) {
  using Multiply =
      void (*)(const MatrixWeights&, int64_t, const float*, int64_t, int64_t, float*, int64_t, const uint8_t*);
  constexpr Multiply multiply_of[] = {nullptr, multiply_rows<Type, 1, Outputs>, multiply_rows<Type, 2, Outputs>,
                                      multiply_rows<Type, 3, Outputs>, multiply_rows<Type, 4, Outputs>};
  constexpr int64_t rows_at_once = 4;
  const int64_t next_output = first_output + 2 * Outputs <= weights.out ? first_output + Outputs : first_output;
  const uint8_t* const next =
      static_cast<const uint8_t*>(weights.data) + next_output * weights.in * element_bytes<Type>;
  for (int64_t row = 0; row < rows; row += rows_at_once) {
    const int64_t now = rows - row < rows_at_once ? rows - row : rows_at_once;
    multiply_of[now](weights, first_output, x, rows, row, out, stride, next);
  }
}

template <DType Type>
void gemv_typed(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride) {
  if (rows == 1) {
    for (int64_t n = first_output; n < last_output; ++n) {
      const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
      out[n] = dot<Type>(std::make_integer_sequence<int, 8>{}, weights, n, x) + bias;
    }
    return;
  }
  int64_t n = first_output;
  for (; n + 4 <= last_output; n += 4) multiply_outputs<Type, 4>(weights, n, x, rows, out, stride);
  for (; n < last_output; ++n) multiply_outputs<Type, 1>(weights, n, x, rows, out, stride);
}

void gemv(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
          float* out, int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, rows, first_output, last_output, out, stride);
}

}  // namespace

const MatrixKernels matrix_avx512 = {gemv, transpose, multiply_floats};

}  // namespace billfish::cpu
#endif
