// Launches of the GEMM kernels. CMake generates a source for each type of weight that instantiates them
// (instances.cmake).
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

// staged_gemm.h. bits: 4, 8 or 16.
template <class Element, int bits, bool zero_points>
void launch_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

// bulk_gemm.h. bits: 4 or 8.
template <class Element, int bits, bool zero_points>
void launch_bulk_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

}  // namespace billfish::BILLFISH_TARGET
