// add, silu_mul and log_n_scale: no element depends on another.
#include <cmath>

#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {
namespace {

// Calls apply(row, first column, columns) over all elements. Long rows are split, so that a single row (decode) is
// parallel too.
template <class Apply>
void for_row_parts(int64_t rows, int64_t columns, ThreadPool& pool, Apply apply) {
  if (rows <= 0 || columns <= 0) return;
  const int64_t parts = (columns - 1) / elements_per_piece + 1;
  const int64_t part_columns = ((columns - 1) / parts / 16 + 1) * 16;
  pool.parallel_for(rows * parts, rows_per_piece(part_columns), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t first = i % parts * part_columns;
      if (first < columns) apply(i / parts, first, std::min(part_columns, columns - first));
    }
  });
}

}  // namespace

void add(const Rows& a, const Rows& b, float* out, int64_t out_stride, ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(a.rows, a.columns, pool, [&](int64_t r, int64_t first, int64_t count) {
    kernels.add(a.data + r * a.stride + first, b.data + r * b.stride + first, count, out + r * out_stride + first);
  });
}

void silu_mul(const Rows& gate, const Rows& up, float* out, int64_t out_stride, ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(gate.rows, gate.columns, pool, [&](int64_t r, int64_t first, int64_t count) {
    kernels.silu_mul(gate.data + r * gate.stride + first, up.data + r * up.stride + first, count,
                     out + r * out_stride + first);
  });
}

void log_n_scale(float* x, int64_t rows, int64_t columns, int64_t stride, const int32_t* positions, int length,
                 ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(rows, rows_per_piece(columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t ordinal = static_cast<int64_t>(positions[r]) + 1;
      if (ordinal <= length) continue;
      const double factor = std::log(static_cast<double>(ordinal)) / std::log(static_cast<double>(length));
      kernels.scale(x + r * stride, static_cast<float>(factor), columns, x + r * stride);
    }
  });
}

}  // namespace billfish::cpu
