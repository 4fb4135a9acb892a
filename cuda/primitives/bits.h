// Bit operations that are a single instruction on a GPU.
#pragma once
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

// Any function of three bits, bit by bit: bit (a << 2 | b << 1 | c) of `table` is the result. Compute the table by
// applying the function to 0xf0, 0xcc and 0xaa: (a & b) | c is lop3<(0xf0 & 0xcc) | 0xaa>.
template <int table>
DEVICE uint32_t lop3(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t out;
  asm("lop3.b32 %0, %1, %2, %3, %4;" : "=r"(out) : "r"(a), "r"(b), "r"(c), "n"(table));
  return out;
}

// Four bytes out of the eight of b:a (a holds bytes 0 to 3): nibble i of `selector` names byte i of the result; its bit
// 3 takes the byte's sign, eight times.
DEVICE uint32_t byte_permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t out;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(selector));
  return out;
}

// The upper 32 bits of (high:low) << shift, and the lower 32 bits of (high:low) >> shift; shift is taken modulo 32.
DEVICE uint32_t funnel_shift_left(uint32_t low, uint32_t high, uint32_t shift) {
  return __funnelshift_l(low, high, shift);
}
DEVICE uint32_t funnel_shift_right(uint32_t low, uint32_t high, uint32_t shift) {
  return __funnelshift_r(low, high, shift);
}

DEVICE int population_count(uint32_t x) { return __popc(x); }
DEVICE int count_leading_zeros(uint32_t x) { return __clz(static_cast<int>(x)); }
DEVICE int find_first_set(uint32_t x) { return __ffs(static_cast<int>(x)); }  // 1 for bit 0; 0 if none is set

}  // namespace billfish::BILLFISH_TARGET
