// The part of unquantized linears that is the same for every Vector. Each SIMD kernels_*.cc includes it after its
// Vector and adds the GEMV.
//
// Sums are arrays indexed by constants only, through fold expressions over `I`, and keep_in_register() pins each
// between steps: otherwise GCC spills all of them at every step, at a third of the speed.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/kernels.h"

namespace billfish::cpu {
namespace {
namespace matrix {

using Value = Vector::Value;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <DType Type>
constexpr int64_t element_bytes = Type == DType::f32 ? 4 : 2;

// A vector of elements, as floats.
template <DType Type>
inline Value load(const uint8_t* data) {
  if constexpr (Type == DType::f32) return Vector::load(reinterpret_cast<const float*>(data));
  const uint16_t* const halves = reinterpret_cast<const uint16_t*>(data);
  return Type == DType::f16 ? Vector::load_f16(halves) : Vector::load_bf16(halves);
}

// Of the first `count` elements, 1 or more; other lanes are zero, and their memory is not touched.
template <DType Type>
inline Value load(const uint8_t* data, int64_t count) {
  if (count >= Vector::width) return load<Type>(data);
  if constexpr (Type == DType::f32) return Vector::load(reinterpret_cast<const float*>(data), count);
  const uint16_t* const halves = reinterpret_cast<const uint16_t*>(data);
  return Type == DType::f16 ? Vector::load_f16(halves, count) : Vector::load_bf16(halves, count);
}

// The GEMV for one type of weight, which each instruction set defines.
template <DType Type>
void gemv_typed(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
                float* out, int64_t stride);

void gemv(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output, float* out,
          int64_t stride) {
  const auto run = weights.type == DType::f32   ? gemv_typed<DType::f32>
                   : weights.type == DType::f16 ? gemv_typed<DType::f16>
                                                : gemv_typed<DType::bf16>;
  run(weights, x, rows, first_output, last_output, out, stride);
}

// Squares of the weights at a time.
template <DType Type>
void transpose_typed(const Matrix& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  constexpr int width = Vector::width;
  const uint8_t* const data = static_cast<const uint8_t*>(weights.data);
  for (int64_t n = 0; n < panel_outputs; n += width) {
    const int64_t outputs = weights.out - first_output - n;
    if (outputs <= 0) return;
    for (int64_t k = 0; k < count; k += width) {
      Value square[width];
      for (int i = 0; i < width; ++i) {
        const int64_t element = (first_output + n + i) * weights.in + first + k;
        square[i] = i < outputs ? load<Type>(data + element * element_bytes<Type>, count - k) : Vector::zero();
        // Prefetches for the next call while this panel is multiplied.
        if (i < outputs) __builtin_prefetch(data + (element + count) * element_bytes<Type>);
      }
      Vector::transpose(square);
      for (int i = 0; i < width; ++i) Vector::store(panel + (k + i) * panel_outputs + n, square[i]);
    }
  }
}

void transpose(const Matrix& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  const auto run = weights.type == DType::f32   ? transpose_typed<DType::f32>
                   : weights.type == DType::f16 ? transpose_typed<DType::f16>
                                                : transpose_typed<DType::bf16>;
  run(weights, first_output, first, count, panel);
}

// Six rows by two or four vectors of sums, as many vectors of weights and a broadcast value fill the registers.
constexpr int vectors = Vector::gemm_vectors;
constexpr int micro_rows = Vector::gemm_rows;

// I counts the sums: I / vectors is the row, I % vectors the vector.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const float* panel, int64_t count, const float* x, int64_t stride,
                   float* sums) {
  Value totals[sizeof...(I)];
  ((totals[I] = Vector::zero()), ...);
  for (int64_t k = 0; k < count; ++k, panel += panel_outputs) {
    ((totals[I] = Vector::multiply_add(Vector::broadcast(x[I / vectors * stride + k]),
                                       Vector::load(panel + I % vectors * Vector::width), totals[I])),
     ...);
    (Vector::keep_in_register(totals[I]), ...);
  }
  const auto add = [](float* sum, Value total) { Vector::store(sum, Vector::add(total, Vector::load(sum))); };
  (add(sums + I / vectors * panel_outputs + I % vectors * Vector::width, totals[I]), ...);
}

template <int Rows>
void multiply_rows(const float* panel, int64_t count, const float* x, int64_t stride, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * vectors>{}, panel, count, x, stride, sums);
}

using MultiplyRows = void (*)(const float*, int64_t, const float*, int64_t, float*);

template <int... Rows>
constexpr MultiplyRows multiply_rows_of(std::integer_sequence<int, Rows...>, int64_t rows) {
  constexpr MultiplyRows of[] = {multiply_rows<Rows + 1>...};
  return of[rows - 1];
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t stride, int64_t rows, float* sums) {
  for (int64_t n = 0; n < panel_outputs; n += vectors * Vector::width) {
    for (int64_t row = 0; row < rows; row += micro_rows) {
      const auto run = multiply_rows_of(std::make_integer_sequence<int, micro_rows>{}, smaller(micro_rows, rows - row));
      run(panel + n, count, x + row * stride, stride, sums + row * panel_outputs + n);
    }
  }
}

}  // namespace matrix
}  // namespace
}  // namespace billfish::cpu
