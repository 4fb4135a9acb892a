#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"
#include "cpu/weights.h"

namespace billfish::cpu {

// The mean is accumulated in fp32, in 16 lanes or more.
void run(OperatorContext& context, const Call<billfish::RmsNorm>& call) {
  const float* const weight = vector_of(call.weight);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    for (int64_t at = 0; at < call.x.columns; at += call.width) {
      kernels.rms_norm(row_of(call.x, r) + at, weight, call.width, call.eps, row_of(call.out, r) + at);
    }
  });
}

void run(OperatorContext& context, const Call<billfish::AddRmsNorm>& call) {
  const float* const weight = vector_of(call.weight);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    kernels.add_rms_norm(row_of(call.x, r), row_of(call.y, r), weight, call.x.columns, call.eps, row_of(call.out, r));
  });
}

}  // namespace billfish::cpu
