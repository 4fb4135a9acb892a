// What the sources that instantiate launch_gemm() share.
#pragma once
#include <type_traits>

#include "gemm/launch_gemm.h"
#include "gemm/staged_gemm.h"
#include "gemm/tiles.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

template <class Element, int bits, bool zero_points>
void launch_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments) {
  using Tiles = std::conditional_t<bits == 16, ElementTiles, QuantizedTiles>;
  Tiles::visit(shape.tile, [&]<class Tile>() {
    launch(stream,
           {.grid = {shape.blocks}, .block = {Tile::threads}, .shared_bytes = shape.shared_bytes, .programmatic = true},
           Gemm<Element, bits, zero_points, Tile>{arguments});
  });
}

}  // namespace billfish::BILLFISH_TARGET
