#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void layer_norm(const Rows& x, const float* weight, const float* bias, float eps, float* out, int64_t out_stride,
                ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(x.rows, rows_per_piece(x.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels.layer_norm(x.data + r * x.stride, weight, bias, x.columns, eps, out + r * out_stride);
    }
  });
}

}  // namespace billfish::cpu
