#include <cmath>

#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {

void run(OperatorContext& context, const Call<billfish::LogNScale>& call) {
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    const int64_t ordinal = int64_t{context.batch->positions[static_cast<size_t>(r)]} + 1;
    if (ordinal <= call.length) return;
    const double factor = std::log(static_cast<double>(ordinal)) / std::log(static_cast<double>(call.length));
    float* const row = row_of(call.x, r);
    kernels.scale(row, static_cast<float>(factor), call.x.columns, row);
  });
}

}  // namespace billfish::cpu
