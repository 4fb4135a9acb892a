#include <algorithm>

#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"
#include "cpu/weights.h"

namespace billfish::cpu {

void run(OperatorContext& context, const Call<billfish::Embedding>& call) {
  const Matrix& table = matrix_of(*call.table);
  const RowKernels& kernels = row_kernels();
  const char* data = static_cast<const char*>(table.data);
  const size_t row_bytes = static_cast<size_t>(table.in) * byte_size(table.type);
  for_each_row(call.out.rows, table.in, context.pool, [&](int64_t r) {
    float* const target = row_of(call.out, r);
    const int64_t row = context.batch->tokens[static_cast<size_t>(r)] - call.first;
    if (row < 0 || row >= table.out) {
      std::fill_n(target, table.in, 0.0f);
    } else {
      kernels.widen(table.type, data + static_cast<size_t>(row) * row_bytes, table.in, target);
    }
  });
}

}  // namespace billfish::cpu
