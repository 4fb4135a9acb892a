// Launching one GEMM. Every type of weight has a source of its own, so that they compile side by side.
#pragma once
#include <cstdint>

#include "gemm/arguments.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

struct GemmLaunch {
  int tile;  // of QuantizedTiles, ElementTiles or BulkTiles
  uint32_t blocks;
  uint32_t shared_bytes;
};

// bits: 4, 8 or 16.
template <class Element, int bits, bool zero_points>
void launch_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

}  // namespace billfish::BILLFISH_TARGET
