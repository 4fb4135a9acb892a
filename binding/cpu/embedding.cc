#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void embedding(const Matrix& table, const int32_t* ids, int64_t rows, float* out, int64_t out_stride,
               ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  const char* data = static_cast<const char*>(table.data);
  const size_t row_bytes = static_cast<size_t>(table.in) * byte_size(table.type);
  pool.parallel_for(rows, rows_per_piece(table.in), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels.widen(table.type, data + static_cast<size_t>(ids[r]) * row_bytes, table.in, out + r * out_stride);
    }
  });
}

}  // namespace billfish::cpu
