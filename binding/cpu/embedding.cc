#include <algorithm>

#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void embedding(const Matrix& table, int64_t first, const int32_t* ids, int64_t rows, float* out, int64_t out_stride,
               ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  const char* data = static_cast<const char*>(table.data);
  const size_t row_bytes = static_cast<size_t>(table.in) * byte_size(table.type);
  pool.parallel_for(rows, rows_per_piece(table.in), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* const target = out + r * out_stride;
      const int64_t row = ids[r] - first;
      if (row < 0 || row >= table.out) {
        std::fill_n(target, table.in, 0.0f);
      } else {
        kernels.widen(table.type, data + static_cast<size_t>(row) * row_bytes, table.in, target);
      }
    }
  });
}

}  // namespace billfish::cpu
