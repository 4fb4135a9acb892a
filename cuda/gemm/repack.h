// Canonical rows to the packed layout, on the device.
#pragma once
#include "gemm/linear.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Packs a slab's strips: codes, scales, zero points and bias; padding outputs and inputs are zero.
void pack_slab(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab);

// Converts rows of numbers to rows of half or bfloat16, padded with zeros.
void convert_rows(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, DType type,
                  const void* rows);

}  // namespace billfish::BILLFISH_TARGET
