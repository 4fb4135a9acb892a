#include <algorithm>

#include "cpu/operator_context.h"

namespace billfish::cpu {

// A few rows of logits at most: not worth a parallel region.
void run(OperatorContext& context, const Call<billfish::Gather>& call) {
  for (int64_t i = 0; i < call.out.rows; ++i) {
    const float* const from = row_of(call.x, context.batch->logit_rows[static_cast<size_t>(call.first + i)]);
    std::copy(from, from + call.x.columns, row_of(call.out, i));
  }
}

}  // namespace billfish::cpu
