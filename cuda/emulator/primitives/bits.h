// Bit operations, in the emulator.
#pragma once
#include <bit>
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

template <int table>
uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t out = 0;
  if constexpr ((table & 0x01) != 0) out |= ~a & ~b & ~c;
  if constexpr ((table & 0x02) != 0) out |= ~a & ~b & c;
  if constexpr ((table & 0x04) != 0) out |= ~a & b & ~c;
  if constexpr ((table & 0x08) != 0) out |= ~a & b & c;
  if constexpr ((table & 0x10) != 0) out |= a & ~b & ~c;
  if constexpr ((table & 0x20) != 0) out |= a & ~b & c;
  if constexpr ((table & 0x40) != 0) out |= a & b & ~c;
  if constexpr ((table & 0x80) != 0) out |= a & b & c;
  return out;
}

inline uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t out = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t choice = selector >> (4 * i) & 0xf;
    uint32_t byte = static_cast<uint32_t>(bytes >> (8 * (choice & 7))) & 0xff;
    if ((choice & 8) != 0) byte = (byte & 0x80) != 0 ? 0xff : 0;
    out |= byte << (8 * i);
  }
  return out;
}

inline uint32_t funnel_shift_left(uint32_t low, uint32_t high, uint32_t shift) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) << (shift & 31) >> 32);
}
inline uint32_t funnel_shift_right(uint32_t low, uint32_t high, uint32_t shift) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> (shift & 31));
}

inline int population_count(uint32_t x) { return std::popcount(x); }
inline int count_leading_zeros(uint32_t x) { return std::countl_zero(x); }
inline int find_first_set(uint32_t x) { return x == 0 ? 0 : std::countr_zero(x) + 1; }

}  // namespace billfish::BILLFISH_TARGET
