// What the sources that instantiate launch_bulk_gemm() share.
#pragma once
#include "gemm/bulk_gemm.h"
#include "gemm/launch_bulk_gemm.h"
#include "gemm/tiles.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

template <class Element, int bits, bool zero_points>
void launch_bulk_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments) {
  BulkTiles<bits>::visit(shape.tile, [&]<class Tile>() {
    using Kernel = BulkGemm<Element, bits, zero_points, Tile>;
    launch(stream,
           {.grid = {shape.blocks},
            .block = {Kernel::max_threads},
            .shared_bytes = shape.shared_bytes,
            .programmatic = true},
           Kernel{arguments});
  });
}

}  // namespace billfish::BILLFISH_TARGET
