// The share of a linear that one thread computes: a panel of its outputs for a block of rows (GEMM), or a few tiles of
// them for all of few rows (GEMV).
#pragma once
#include <algorithm>
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/linear.h"
#include "cpu/linear_activation.h"

namespace billfish::cpu {

// Maximum rows of a GEMM piece, a multiple of the microkernel's six: their sums (33 KB) and, at usual widths, their
// activations stay in the L2 cache, and unpacking costs one or two percent of multiplying.
constexpr int64_t block_rows = 132;

constexpr int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

// Rows of the pieces' blocks: as even as multiples of six allow.
inline int64_t rows_of_block(int64_t rows) {
  const int64_t blocks = divide_up(rows, block_rows);
  return std::min(block_rows, divide_up(divide_up(rows, blocks), 6) * 6);
}

// A linear on a prepared activation.
struct LinearPart {
  enum class Kind { quantized_integers, quantized_floats, quantized_pairs, matrix };
  Kind kind = Kind::matrix;
  bool gemv = false;
  QuantizedLinear weights;
  Matrix matrix;
  const Activation* activation = nullptr;
  int64_t rows = 0;
  float* out = nullptr;
  int64_t stride = 0;
  SlotMap slots;
  int64_t outputs = 0, panels = 0;

  float* row(int64_t r) const { return out + slots.offset(r, stride); }
};

// Rows [first, first + count) of a weight as one of their own; `first` is a multiple of tile_outputs.
QuantizedLinear rows_of(const QuantizedLinear& all, int64_t first, int64_t count);
Matrix rows_of(const Matrix& all, int64_t first, int64_t count);

LinearPart make_part(const LinearCall& call, int64_t rows, const Activation& activation);

// Pieces [first, last) of panels * blocks, panels fastest, in blocks of rows_of_block(rows).
void run_gemm(const LinearPart& part, int64_t first, int64_t last);

// Tiles [first, last) of 16 outputs.
void run_gemv(const LinearPart& part, int64_t first, int64_t last);

}  // namespace billfish::cpu
