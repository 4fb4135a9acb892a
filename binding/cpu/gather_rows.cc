#include <algorithm>

#include "cpu/operators.h"

namespace billfish::cpu {

// At most a few rows of logits: not worth a parallel region.
void gather_rows(const Rows& x, const int32_t* rows, int64_t count, float* out, int64_t out_stride) {
  for (int64_t i = 0; i < count; ++i) {
    const float* from = x.data + rows[i] * x.stride;
    std::copy(from, from + x.columns, out + i * out_stride);
  }
}

}  // namespace billfish::cpu
