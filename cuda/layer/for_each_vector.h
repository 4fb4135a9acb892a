// The launch shape of elementwise operators: a thread takes `wide` adjacent elements of a row (one if rows are not
// aligned), 128 threads per block, one row of blocks per row of the matrix.
//
// All of them read and write each byte once, so their floor is bytes / bandwidth; a single row of 8192 is 8 blocks and
// costs a launch.
#pragma once
#include <algorithm>
#include <cstdint>

#include "layer/vector.h"
#include "primitives/index.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

constexpr uint32_t vector_threads = 128;

// Operation: a struct with `template <int count> DEVICE void apply(int64_t row, int64_t column) const`, which does the
// elements [column, column + count) of a row.
template <class Operation, int count>
struct ForEachVector {
  static constexpr int max_threads = vector_threads;
  Operation operation;
  uint32_t columns;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const uint32_t step = grid_size().y * vector_threads * count;
    for (uint32_t column = (block_index().y * vector_threads + thread_index().x) * count; column < columns;
         column += step) {
      operation.template apply<count>(block_index().x, column);
    }
  }
};

template <class Operation>
void for_each_vector(Stream& stream, int64_t rows, int64_t columns, bool in_wide_vectors, const Operation& operation) {
  if (rows <= 0 || columns <= 0) return;
  const int64_t count = in_wide_vectors ? wide : 1;
  const int64_t blocks = (columns + vector_threads * count - 1) / (vector_threads * count);
  const LaunchShape shape{
      .grid = {static_cast<uint32_t>(rows), static_cast<uint32_t>(std::min<int64_t>(blocks, 65535))},
      .block = {vector_threads},
      .programmatic = true};
  if (in_wide_vectors) {
    launch(stream, shape, ForEachVector<Operation, wide>{operation, static_cast<uint32_t>(columns)});
  } else {
    launch(stream, shape, ForEachVector<Operation, 1>{operation, static_cast<uint32_t>(columns)});
  }
}

}  // namespace billfish::BILLFISH_TARGET
