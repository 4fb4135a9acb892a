// Reductions over a warp and a block; every thread gets the result. Written once, in terms of the other primitives.
#pragma once
#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "primitives/warp.h"

namespace billfish::BILLFISH_TARGET {

// Over each group of `width` lanes.
template <int width = 32, class T, class Combine>
DEVICE T warp_reduce(T value, const Combine& combine) {
  UNROLL for (int step = width / 2; step > 0; step /= 2) { value = combine(value, shuffle_xor(value, step)); }
  return value;
}
template <int width = 32>
DEVICE float warp_sum(float value) {
  return warp_reduce<width>(value, [](float a, float b) { return a + b; });
}

// Over the block (whole warps along x). `scratch` holds one T per warp and may be reused after the call.
template <class T, class Combine>
DEVICE T block_reduce(T value, const Combine& combine, Shared<T> scratch) {
  value = warp_reduce(value, combine);
  const uint32_t warps = block_size().x / warp_size;
  if (warps == 1) return value;
  if (lane_index() == 0) scratch[warp_index()] = value;
  sync_threads();
  T result = scratch[0];
  for (uint32_t warp = 1; warp < warps; ++warp) result = combine(result, T(scratch[warp]));
  sync_threads();
  return result;
}
DEVICE float block_sum(float value, Shared<float> scratch) {
  return block_reduce(
      value, [](float a, float b) { return a + b; }, scratch);
}
DEVICE float block_max(float value, Shared<float> scratch) {
  return block_reduce(
      value, [](float a, float b) { return max(a, b); }, scratch);
}

}  // namespace billfish::BILLFISH_TARGET
