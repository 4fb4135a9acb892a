#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"
#include "cpu/weights.h"

namespace billfish::cpu {

void run(OperatorContext& context, const Call<billfish::LayerNorm>& call) {
  const float *const weight = vector_of(call.weight), *const bias = vector_of(call.bias);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    kernels.layer_norm(row_of(call.x, r), weight, bias, call.x.columns, call.eps, row_of(call.out, r));
  });
}

}  // namespace billfish::cpu
