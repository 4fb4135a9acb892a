// Rows of a table by token id.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out[r] = table[tokens[r] - first], zeros for tokens that have no row in the table. Table: float, half or bfloat16;
// tokens in the device's memory.
template <class Table>
void embedding(Stream& stream, const Matrix<const Table>& table, int64_t first, const int32_t* tokens,
               const Matrix<float>& out);

}  // namespace billfish::BILLFISH_TARGET
