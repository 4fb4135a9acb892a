// Between element types.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out = x with another element type (float, half or bfloat16) or stride; the nearest representable number, and the
// largest finite one for a finite number beyond it (infinity and NaN stay what they are).
template <class From, class To>
void convert(Stream& stream, const Matrix<const From>& x, const Matrix<To>& out);

}  // namespace billfish::BILLFISH_TARGET
