// Rotary position embedding.
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Rotates the first 2 * half columns of every head in place, NeoX style: (x1, x2) are columns i and i + half, the
// angles are those of the batch's table number `rope` (make_rope_tables()). x has one row per token.
template <class Element>
void rope(Stream& stream, const DeviceBatch& batch, int32_t rope, const Matrix<Element>& x, int32_t heads,
          int32_t head_dim);

}  // namespace billfish::BILLFISH_TARGET
