#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void run(OperatorContext& context, const Call<billfish::Add>& call) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(call.x.rows, call.x.columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const x = row_of(call.x, r) + first;
    kernels.add(x, row_of(call.y, r) + first, count, x);
  });
}

}  // namespace billfish::cpu
