// Root-mean-square norms, accumulated in fp32.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out = x / sqrt(mean(x^2) + eps) * weight, over each run of `width` columns: width == columns for a layer's norm, ==
// head_dim for q/k norm. `weight` has `width` elements. In: float (the residual stream) or Element (half, bfloat16);
// out may be x. Throws UNSUPPORTED_MODEL for runs of more than 16384 columns (8192 where rows are not aligned).
template <class In, class Element>
void rms_norm(Stream& stream, const Matrix<const In>& x, const float* weight, int64_t width, float eps,
              const Matrix<Element>& out);

// x += y, then out = rms_norm(x) over whole rows: the residual add and the norm that follows it, in one pass.
template <class Element>
void add_rms_norm(Stream& stream, const Matrix<float>& x, const Matrix<const Element>& y, const float* weight,
                  float eps, const Matrix<Element>& out);

}  // namespace billfish::BILLFISH_TARGET
