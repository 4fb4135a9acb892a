// Codes to numbers that tensor cores take: exact integers code - zero, two in a register, without a conversion.
//
// A half of exponent 10 counts in ones: 0x6400 + c, for c below 1024, is 1024 + c. A bfloat16 of exponent 7 does so for
// c below 128: 0x4300 + c is 128 + c. So putting a code into the low bits of such a number and subtracting 1024 + zero
// (or 128 + zero) gives code - zero exactly.
//
// Each prepare() makes a tile's two zero points (outputs g and g+8 of this lane) into what the subtraction wants, once
// for several k-blocks (`centre` is that of 2^(bits-1)); each convert<zero_points>() makes a tile's codes into the four
// registers of layout.h.
#pragma once
#include <cstdint>

#include "primitives/bits.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

// (word & mask) | pattern
template <uint32_t mask, uint32_t pattern>
DEVICE uint32_t take_bits(uint32_t word) {
  return lop3<(0xf0 & 0xcc) | 0xaa>(word, mask, pattern);
}

template <class Element>
DEVICE uint32_t subtract(uint32_t from, uint32_t what) {
  return bit_cast<uint32_t>(sub2(bit_cast<Pair<Element>>(from), bit_cast<Pair<Element>>(what)));
}

// Bytes `byte` of `bytes` under `upper`, in both halves of a register: 0xUUbbUUbb.
DEVICE uint32_t spread_byte(uint32_t bytes, int byte, uint32_t upper) {
  return byte_permute(bytes, upper, static_cast<uint32_t>(0x4040 + 0x0101 * byte));
}

// What one tile needs: the zero points of outputs g and g+8. `zeros` holds four bytes, of which `pair` names two.
struct ZeroPoints {
  uint32_t lower, upper;
};

template <class Element, int bits>
struct Dequantiser;

// 4 bits to half. The codes of output g+8 stand four bits higher: 0x6400 + 16 c is 1024 + 16 c, which a multiplication
// by 1/16 and a subtraction of 64 + zero in one instruction makes c - zero. 64 + zero is 0x5400 + 16 zero.
template <>
struct Dequantiser<half, 4> {
  static constexpr ZeroPoints centre{0x64086408u, 0xd480d480u};  // 1024 + 8, -(64 + 8)
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x64646464u), spread_byte(zeros << 4, 2 * pair + 1, 0xd4d4d4d4u)};
  }
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[1], const ZeroPoints& zero, uint32_t (&a)[4]) {
    constexpr uint32_t low = 0x000f000fu, high = 0x00f000f0u, base = 0x64006400u;
    const half2 sixteenth = bit_cast<half2>(0x2c002c00u), offset = bit_cast<half2>(zero.upper);
    const uint32_t word = words[0], shifted = word >> 8;
    a[0] = subtract<half>(take_bits<low, base>(word), zero.lower);
    a[1] = bit_cast<uint32_t>(fma2(bit_cast<half2>(take_bits<high, base>(word)), sixteenth, offset));
    a[2] = subtract<half>(take_bits<low, base>(shifted), zero.lower);
    a[3] = bit_cast<uint32_t>(fma2(bit_cast<half2>(take_bits<high, base>(shifted)), sixteenth, offset));
  }
};

// 4 bits to bfloat16, whose seven bits do not hold 16 c: every code is shifted down.
template <>
struct Dequantiser<bfloat16, 4> {
  static constexpr ZeroPoints centre{0x43084308u, 0x43084308u};  // 128 + 8
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x43434343u), spread_byte(zeros, 2 * pair + 1, 0x43434343u)};
  }
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[1], const ZeroPoints& zero, uint32_t (&a)[4]) {
    constexpr uint32_t low = 0x000f000fu, base = 0x43004300u;
    UNROLL for (int i = 0; i < 4; ++i) {
      a[i] = subtract<bfloat16>(take_bits<low, base>(words[0] >> (4 * i)), i % 2 == 0 ? zero.lower : zero.upper);
    }
  }
};

// 8 bits to half: bytes under 0x64.
template <>
struct Dequantiser<half, 8> {
  static constexpr ZeroPoints centre{0x64806480u, 0x64806480u};  // 1024 + 128
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x64646464u), spread_byte(zeros, 2 * pair + 1, 0x64646464u)};
  }
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints& zero, uint32_t (&a)[4]) {
    UNROLL for (int i = 0; i < 2; ++i) {
      a[2 * i] = subtract<half>(byte_permute(words[i], 0x64646464u, 0x4140), zero.lower);
      a[2 * i + 1] = subtract<half>(byte_permute(words[i], 0x64646464u, 0x4342), zero.upper);
    }
  }
};

// 8 bits to bfloat16: the low seven bits c' of a code count from 128, and its highest bit chooses what is subtracted.
//   code - 128 = (128 + c') - (bit 7 ? 128 : 256)         256 is 0x4380, 128 is 0x4300
// A zero point other than 128 takes one more subtraction, of zero - 128; all values are integers up to 255.
template <>
struct Dequantiser<bfloat16, 8> {
  static constexpr ZeroPoints centre{0, 0};
  DEVICE static uint32_t minus_128(uint32_t spread) {  // of 0x43cc43cc
    const uint32_t low_bits = spread & 0xff7fff7fu;
    const uint32_t offset = lop3<(0xf0 & 0xcc) ^ 0xaa>(spread, 0xff80ff80u, 0x00800080u);
    return subtract<bfloat16>(low_bits, offset);
  }
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {minus_128(spread_byte(zeros, 2 * pair, 0x43434343u)),
            minus_128(spread_byte(zeros, 2 * pair + 1, 0x43434343u))};
  }
  template <bool zero_points>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints& zero, uint32_t (&a)[4]) {
    UNROLL for (int i = 0; i < 2; ++i) {
      a[2 * i] = minus_128(byte_permute(words[i], 0x43434343u, 0x4140));
      a[2 * i + 1] = minus_128(byte_permute(words[i], 0x43434343u, 0x4342));
      if constexpr (zero_points) {
        a[2 * i] = subtract<bfloat16>(a[2 * i], zero.lower);
        a[2 * i + 1] = subtract<bfloat16>(a[2 * i + 1], zero.upper);
      }
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
