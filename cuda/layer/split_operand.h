// fp32 numbers as operands of tensor cores: each is the sum of two elements, the nearest one and what is missing.
#pragma once
#include <cstdint>

#include "primitives/index.h"
#include "primitives/mma.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// x as a sum of two elements, in pairs as mma takes them.
template <class Element>
struct SplitPair {
  uint32_t high, low;
};
template <class Element>
DEVICE SplitPair<Element> split(float x, float y) {
  const auto high = pair_from_floats<Element>(x, y);
  const float2 rounded = to_float2(high);
  return {bit_cast<uint32_t>(high), bit_cast<uint32_t>(pair_from_floats<Element>(x - rounded.x, y - rounded.y))};
}

// An A operand of such sums, 16 x 16, out of two accumulators side by side: C's layout is A's.
template <class Element>
struct SplitOperand {
  uint32_t high[4], low[4];

  DEVICE static SplitOperand of(const float (&left)[4], const float (&right)[4]) {
    SplitOperand operand;
    UNROLL for (int half = 0; half < 2; ++half) {
      const auto l = split<Element>(left[2 * half], left[2 * half + 1]);
      const auto r = split<Element>(right[2 * half], right[2 * half + 1]);
      operand.high[half] = l.high;
      operand.low[half] = l.low;
      operand.high[2 + half] = r.high;
      operand.low[2 + half] = r.low;
    }
    return operand;
  }

  // In shared memory the lanes' four words are adjacent, `high` of all lanes before `low`.
  static constexpr uint32_t bytes = 2 * warp_size * sizeof(uint4);
  DEVICE static SplitOperand load(Shared<const uint4> from) {
    const uint4 h = from[lane_index()], l = from[warp_size + lane_index()];
    return {{h.x, h.y, h.z, h.w}, {l.x, l.y, l.z, l.w}};
  }
  DEVICE void store(Shared<uint4> to) const {
    to[lane_index()] = uint4{high[0], high[1], high[2], high[3]};
    to[warp_size + lane_index()] = uint4{low[0], low[1], low[2], low[3]};
  }
};

}  // namespace billfish::BILLFISH_TARGET
