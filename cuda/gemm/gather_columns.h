// Permutes columns of activations into the order of a weight.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out[r][k] = x[r][order[k]] (or x[r][k] where order is null) for k < x.columns, and zero up to out.columns.
template <class Element>
void gather_columns(Stream& stream, const Matrix<const Element>& x, const int32_t* order, const Matrix<Element>& out);

}  // namespace billfish::BILLFISH_TARGET
