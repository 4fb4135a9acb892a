// Layer norms, accumulated in fp32.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias, over whole rows; bias may be null. A mean
// that is large compared with the deviations costs no precision. In: float (the residual stream) or Element (half,
// bfloat16); out may be x. Throws UNSUPPORTED_MODEL for rows of more than 16384 columns (8192 where rows are not
// aligned).
template <class In, class Element>
void layer_norm(Stream& stream, const Matrix<const In>& x, const float* weight, const float* bias, float eps,
                const Matrix<Element>& out);

}  // namespace billfish::BILLFISH_TARGET
