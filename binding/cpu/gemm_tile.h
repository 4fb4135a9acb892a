// A small fp32 matrix product over Vector: C[rows][columns] = A[rows][depth] * B[depth][columns], whole vectors of
// columns, operands in cache. Included after a vector_*.h.
//
// A tile of up to gemm_rows x gemm_vectors accumulators stays in registers over the whole depth: each step loads
// gemm_vectors vectors of B and broadcasts gemm_rows elements of A for gemm_rows * gemm_vectors multiply-adds.
#pragma once
#include <cstdint>

namespace billfish::cpu {
namespace {

using Value = Vector::Value;

struct Operand {
  const float* data;
  int stride;
};
struct Result {
  float* data;
  int stride;
};

// Without factors the tile starts at zero, with them at C[r] * factors[r].
template <int rows, int vectors>
void gemm_tile(Operand a, Operand b, Result c, int depth, const float* factors) {
  Value sums[rows][vectors];
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) {
      sums[r][i] = factors == nullptr ? Vector::zero()
                                      : Vector::multiply(Vector::broadcast(factors[r]),
                                                         Vector::load(c.data + r * c.stride + i * Vector::width));
    }
  }
  for (int k = 0; k < depth; ++k) {
    Value columns[vectors];
    for (int i = 0; i < vectors; ++i) columns[i] = Vector::load(b.data + k * b.stride + i * Vector::width);
    for (int r = 0; r < rows; ++r) {
      const Value element = Vector::broadcast(a.data[r * a.stride + k]);
      for (int i = 0; i < vectors; ++i) sums[r][i] = Vector::multiply_add(element, columns[i], sums[r][i]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) Vector::store(c.data + r * c.stride + i * Vector::width, sums[r][i]);
  }
}

using GemmTile = void (*)(Operand a, Operand b, Result c, int depth, const float* factors);

template <int rows>
GemmTile gemm_tile_of(int vectors) {
  static_assert(Vector::gemm_vectors == 2 || Vector::gemm_vectors == 4);
  if constexpr (Vector::gemm_vectors == 4) {
    if (vectors == 4) return gemm_tile<rows, 4>;
    if (vectors == 3) return gemm_tile<rows, 3>;
  }
  return vectors == 2 ? gemm_tile<rows, 2> : gemm_tile<rows, 1>;
}

GemmTile gemm_tile_of(int rows, int vectors) {
  static_assert(Vector::gemm_rows == 4 || Vector::gemm_rows == 6);
  if constexpr (Vector::gemm_rows == 6) {
    if (rows == 6) return gemm_tile_of<6>(vectors);
    if (rows == 5) return gemm_tile_of<5>(vectors);
  }
  if (rows == 4) return gemm_tile_of<4>(vectors);
  if (rows == 3) return gemm_tile_of<3>(vectors);
  return rows == 2 ? gemm_tile_of<2>(vectors) : gemm_tile_of<1>(vectors);
}

// Rows and vectors are split evenly: 13 rows make tiles of 5, 4 and 4 rather than 6, 6 and 1.
void gemm(Operand a, Operand b, Result c, int rows, int vectors, int depth, const float* factors) {
  const int row_parts = (rows + Vector::gemm_rows - 1) / Vector::gemm_rows;
  const int vector_parts = (vectors + Vector::gemm_vectors - 1) / Vector::gemm_vectors;
  for (int part = 0; part < vector_parts; ++part) {
    const int first = vectors * part / vector_parts, count = vectors * (part + 1) / vector_parts - first;
    const int column = first * Vector::width;
    for (int row_part = 0; row_part < row_parts; ++row_part) {
      const int row = rows * row_part / row_parts, row_count = rows * (row_part + 1) / row_parts - row;
      gemm_tile_of(row_count, count)({a.data + row * a.stride, a.stride}, {b.data + column, b.stride},
                                     {c.data + row * c.stride + column, c.stride}, depth,
                                     factors == nullptr ? nullptr : factors + row);
    }
  }
}

}  // namespace
}  // namespace billfish::cpu
