#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void rms_norm(const Rows& x, const float* weight, int64_t width, float eps, float* out, int64_t out_stride,
              ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(x.rows, rows_per_piece(x.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t at = 0; at < x.columns; at += width) {
        kernels.rms_norm(x.data + r * x.stride + at, weight, width, eps, out + r * out_stride + at);
      }
    }
  });
}

void add_rms_norm(float* x, int64_t x_stride, const Rows& y, const float* weight, float eps, float* out,
                  int64_t out_stride, ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  pool.parallel_for(y.rows, rows_per_piece(y.columns), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      kernels.add_rms_norm(x + r * x_stride, y.data + r * y.stride, weight, y.columns, eps, out + r * out_stride);
    }
  });
}

}  // namespace billfish::cpu
