#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

// The relative error of exp is 2e-7 at most.
void run(OperatorContext& context, const Call<billfish::SiluMul>& call) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(call.gate.rows, call.gate.columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const gate = row_of(call.gate, r) + first;
    kernels.silu_mul(gate, row_of(call.up, r) + first, count, gate);
  });
}

}  // namespace billfish::cpu
