// Launching the GEMM of bulk_gemm.h. As in launch_gemm.h, every type of weight has a source of its own.
#pragma once
#include "gemm/launch_gemm.h"

namespace billfish::BILLFISH_TARGET {

// bits: 4 or 8; the launch's tile is one of BulkTiles.
template <class Element, int bits, bool zero_points>
void launch_bulk_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

}  // namespace billfish::BILLFISH_TARGET
