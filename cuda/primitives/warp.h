// The lanes of a warp exchange values. All lanes of the mask must call, with the same mask; T has 4 or 8 bytes.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

constexpr uint32_t all_lanes = 0xffffffffu;

// The value of lane `source`; of this lane ^ `lane_mask`; of the lane `delta` lower or higher (its own if there is
// none). With `width` (a power of two), within groups of that many lanes.
template <class T>
DEVICE T shuffle(T value, int source, int width = 32, uint32_t lanes = all_lanes) {
  return __shfl_sync(lanes, value, source, width);
}
template <class T>
DEVICE T shuffle_xor(T value, int lane_mask, int width = 32, uint32_t lanes = all_lanes) {
  return __shfl_xor_sync(lanes, value, lane_mask, width);
}
template <class T>
DEVICE T shuffle_up(T value, unsigned delta, int width = 32, uint32_t lanes = all_lanes) {
  return __shfl_up_sync(lanes, value, delta, width);
}
template <class T>
DEVICE T shuffle_down(T value, unsigned delta, int width = 32, uint32_t lanes = all_lanes) {
  return __shfl_down_sync(lanes, value, delta, width);
}

// Bit i of the result: lane i's condition.
DEVICE uint32_t ballot(bool condition, uint32_t lanes = all_lanes) { return __ballot_sync(lanes, condition); }
DEVICE bool any(bool condition, uint32_t lanes = all_lanes) { return __any_sync(lanes, condition) != 0; }
DEVICE bool all(bool condition, uint32_t lanes = all_lanes) { return __all_sync(lanes, condition) != 0; }

}  // namespace billfish::BILLFISH_TARGET
