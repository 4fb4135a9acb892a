// Packed weights back to rows of 16-bit numbers.
#pragma once
#include <cstdint>

#include "gemm/linear.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// to[r * stride + k] = scale * (code - zero) of output first + r and input k (in the weight's own order of inputs),
// rounded once to Element where scales are 16-bit; columns [in, stride) become zero. `first` is a multiple of 64,
// `stride` that of a 16-bit matrix: `in` rounded up to 64. `to` begins at a multiple of 16 bytes.
template <class Element>
void dequantize_rows(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, Element* to,
                     int64_t stride);

}  // namespace billfish::BILLFISH_TARGET
