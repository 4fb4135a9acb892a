// How row-wise operators split their work for the pool.
#pragma once
#include <algorithm>
#include <cstdint>

#include "engine/thread_pool.h"

namespace billfish::cpu {

// A region costs a microsecond or two, in which one core processes about ten thousand elements: fewer are not worth a
// second thread.
constexpr int64_t elements_per_piece = 8192;

inline int64_t rows_per_piece(int64_t elements_per_row) {
  return std::max<int64_t>(1, elements_per_piece / std::max<int64_t>(1, elements_per_row));
}

// Calls apply(row) for all rows.
template <class Apply>
void for_each_row(int64_t rows, int64_t elements_per_row, ThreadPool& pool, Apply apply) {
  pool.parallel_for(rows, rows_per_piece(elements_per_row), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) apply(r);
  });
}

// Calls apply(row, first column, columns) over all elements, of operators in which no element depends on another. Long
// rows are cut, so that a single one (decode) is shared as well.
template <class Apply>
void for_row_parts(int64_t rows, int64_t columns, ThreadPool& pool, Apply apply) {
  if (rows <= 0 || columns <= 0) return;
  const int64_t parts = (columns - 1) / elements_per_piece + 1;
  const int64_t part_columns = ((columns - 1) / parts / 16 + 1) * 16;
  for_each_row(rows * parts, part_columns, pool, [&](int64_t i) {
    const int64_t first = i % parts * part_columns;
    if (first < columns) apply(i / parts, first, std::min(part_columns, columns - first));
  });
}

}  // namespace billfish::cpu
