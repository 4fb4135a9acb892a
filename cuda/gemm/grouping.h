// Sorts the slots of a batch by expert, on the device.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// What GroupedArguments take, in memory of GroupingLayout's bytes.
struct Grouping {
  int32_t* tile_count = nullptr;
  uint32_t* tiles = nullptr;
  int32_t* slots = nullptr;
};

// `routing` [tokens, 2 * per_token]: what Route gives. Slots at experts from `first` on become those of experts 0 to
// `experts` - 1, the others those of number `experts`; a tile has up to `tile_tokens` slots of one.
Grouping group_slots(Stream& stream, const Matrix<const float>& routing, int32_t first, int32_t experts,
                     int32_t tile_tokens, void* memory);

}  // namespace billfish::BILLFISH_TARGET
