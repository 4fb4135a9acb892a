// Conversion of codes to numbers that tensor cores take, two per register, without convert instructions. There are two
// ways.
//
// Exactly, convert(): code - zero, an integer that half and bfloat16 hold. A half in [1024, 2048) has a unit of 1:
//
//   0x6400 | c = 1024 + c   for c < 1024        bfloat16: 0x4300 | c = 128 + c   for c < 128
//
// so OR the code into the low bits and subtract 1024 + zero (or 128 + zero).
//
// With a correction, raw(): unit * (code + base), for the price of moving the bits into place. The sum is corrected
// before or after: add -unit * (zero + base) times the sum of the same inputs, and divide the result by `unit`. For
// half, raw numbers are the plain codes: the bits of c are the half c * 2^-24, a subnormal, which tensor cores do not
// flush.
//
// Codes that are floats are numbers already once their bits are in place:
//
//   e4m3 s eeee mmm (bias 7)     half      s 0eeee mmm0000000      2^-8 of the number
//                                bfloat16  s 0000eeee mmm0000      2^-120 of it
//
//   e2m1 s ee m     (bias 1)     half      s 000ee m000000000      2^-14 of it
//                                bfloat16  s 000000ee m000000      2^-126 of it
//
// Subnormals are subnormal there too, with the same factor. For half that is the unit of all sums. Of bfloat16 numbers
// near 2^-120 fp32 sums would be subnormal: these are multiplied by the inverse factor first, which is exact.
//
// Registers are those of layout.h: a[0] and a[2] belong to the lower output g, a[1] and a[3] to the upper output g + 8.
#pragma once
#include <cstdint>

#include "engine/dtype.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

// Eight 16-bit scales, f16 or bf16, as floats.
DEVICE void unpack_scales(uint4 eight, DType type, float (&scales)[8]) {
  const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
  UNROLL for (int i = 0; i < 4; ++i) {
    const float2 two =
        type == DType::f16 ? to_float2(bit_cast<half2>(pairs[i])) : to_float2(bit_cast<bfloat162>(pairs[i]));
    scales[2 * i] = two.x, scales[2 * i + 1] = two.y;
  }
}

// Eight scales in bytes as floats, in units of unit_of_scales(): e4m3 ones are those of halves, as codes are below, and
// e8m0 ones are exponents of floats.
DEVICE constexpr float unit_of_scales(DType type) { return type == DType::f8_e4m3 ? 0x1p-8f : 1.0f; }
DEVICE void unpack_byte_scales(uint2 eight, DType type, float (&scales)[8]) {
  UNROLL for (int i = 0; i < 8; i += 2) {
    const uint32_t four = i < 4 ? eight.x : eight.y;
    if (type == DType::f8_e4m3) {
      const uint32_t upper = byte_permute(four, 0, i % 4 == 0 ? 0x1404 : 0x3424);
      const uint32_t pair = lop3<(0xf0 & 0xcc) | 0xaa>(upper, 0x80008000u, upper >> 1 & 0x3f803f80u);
      const float2 two = to_float2(bit_cast<half2>(pair));
      scales[i] = two.x, scales[i + 1] = two.y;
    } else {
      UNROLL for (int j = 0; j < 2; ++j) {
        const uint32_t exponent = four >> (8 * (i % 4 + j)) & 0xffu;
        scales[i + j] = bit_cast<float>(max(exponent << 23, 0x00400000u));  // 2^-127 is subnormal
      }
    }
  }
}

// (word & mask) | pattern
template <uint32_t mask, uint32_t pattern>
DEVICE uint32_t take_bits(uint32_t word) {
  return lop3<(0xf0 & 0xcc) | 0xaa>(word, mask, pattern);
}

template <class Element>
DEVICE uint32_t subtract(uint32_t from, uint32_t what) {
  return bit_cast<uint32_t>(sub2(bit_cast<Pair<Element>>(from), bit_cast<Pair<Element>>(what)));
}

// Byte `byte` of `bytes` under the lowest of `upper`, in both halves of a register: 0xUUbbUUbb.
DEVICE uint32_t spread_byte(uint32_t bytes, int byte, uint32_t upper) {
  return byte_permute(bytes, upper, static_cast<uint32_t>(0x4040 + 0x0101 * byte));
}

// Byte `byte` of `bytes` as a float: as the low bits of 2^23 + byte.
DEVICE float byte_plus(uint32_t bytes, int byte, float offset) {
  const uint32_t bits = byte_permute(bytes, 0x4b000000u, static_cast<uint32_t>(0x7440 + byte));
  return bit_cast<float>(bits) + (offset - 0x1p23f);
}

// What the zero points of a tile's two outputs are made into, once for several k-blocks.
struct ZeroPoints {
  uint32_t lower, upper;
};

// prepare() turns zero points 2 * pair and 2 * pair + 1 of four bytes into convert()'s argument, and `center` is that
// of 2^(bits-1). convert()'s template argument says which one is passed. `middle` is the zero point of symmetric codes,
// `unit` what convert() gives for 1.
template <class Element, int bits, bool floats = false>
struct Dequantizer;

// 4 bits to half. The codes of the upper output are four bits higher: 0x6400 + 16 c is 1024 + 16 c, which one fused
// multiply-add by 1/16 and -(64 + zero) turns into c - zero; 64 + zero is 0x5400 + 16 zero.
template <>
struct Dequantizer<half, 4> {
  static constexpr float unit = 1, middle = 8;
  static constexpr ZeroPoints center{0x64086408u, 0xd480d480u};  // 1024 + 8, -(64 + 8)
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x64u), spread_byte(zeros << 4, 2 * pair + 1, 0xd4u)};
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

  static constexpr float lower_unit = 0x1p-24f, upper_unit = 0x1p-20f, base = 0;
  DEVICE static void raw(const uint32_t (&words)[1], uint32_t (&a)[4]) {
    constexpr uint32_t low = 0x000f000fu, high = 0x00f000f0u;
    const uint32_t word = words[0], shifted = word >> 8;
    a[0] = word & low;
    a[1] = word & high;
    a[2] = shifted & low;
    a[3] = shifted & high;
  }
};

// 4 bits to bfloat16, whose seven bits do not hold 16 c: every code is shifted down.
template <>
struct Dequantizer<bfloat16, 4> {
  static constexpr float unit = 1, middle = 8;
  static constexpr ZeroPoints center{0x43084308u, 0x43084308u};  // 128 + 8
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x43u), spread_byte(zeros, 2 * pair + 1, 0x43u)};
  }
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[1], const ZeroPoints& zero, uint32_t (&a)[4]) {
    raw(words, a);
    UNROLL for (int i = 0; i < 4; ++i) a[i] = subtract<bfloat16>(a[i], i % 2 == 0 ? zero.lower : zero.upper);
  }

  static constexpr float lower_unit = 1, upper_unit = 1, base = 128;
  DEVICE static void raw(const uint32_t (&words)[1], uint32_t (&a)[4]) {
    UNROLL for (int i = 0; i < 4; ++i) a[i] = take_bits<0x000f000fu, 0x43004300u>(words[0] >> (4 * i));
  }
};

// 8 bits to half: bytes under 0x64, or under nothing.
template <>
struct Dequantizer<half, 8> {
  static constexpr float unit = 1, middle = 128;
  static constexpr ZeroPoints center{0x64806480u, 0x64806480u};  // 1024 + 128
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {spread_byte(zeros, 2 * pair, 0x64u), spread_byte(zeros, 2 * pair + 1, 0x64u)};
  }
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints& zero, uint32_t (&a)[4]) {
    spread(words, 0x64u, a);
    UNROLL for (int i = 0; i < 4; ++i) a[i] = subtract<half>(a[i], i % 2 == 0 ? zero.lower : zero.upper);
  }

  static constexpr float lower_unit = 0x1p-24f, upper_unit = 0x1p-24f, base = 0;
  DEVICE static void raw(const uint32_t (&words)[2], uint32_t (&a)[4]) { spread(words, 0, a); }

  DEVICE static void spread(const uint32_t (&words)[2], uint32_t upper, uint32_t (&a)[4]) {
    UNROLL for (int i = 0; i < 2; ++i) {
      a[2 * i] = byte_permute(words[i], upper, 0x4140);
      a[2 * i + 1] = byte_permute(words[i], upper, 0x4342);
    }
  }
};

// 8 bits to bfloat16: the low seven bits c' of a code become 128 + c', and its highest bit selects what is subtracted.
//   code - 128 = (128 + c') - (bit 7 ? 128 : 256)         256 is 0x4380, 128 is 0x4300
// For a zero point other than 128, zero - 128 is subtracted as well; all values are integers up to 255.
template <>
struct Dequantizer<bfloat16, 8> {
  static constexpr float unit = 1, middle = 128;
  DEVICE static uint32_t minus_128(uint32_t spread) {  // of 0x43cc43cc
    const uint32_t offset = lop3<(0xf0 & 0xcc) ^ 0xaa>(spread, 0xff80ff80u, 0x00800080u);
    return subtract<bfloat16>(spread & 0xff7fff7fu, offset);
  }

  static constexpr ZeroPoints center{0, 0};
  DEVICE static ZeroPoints prepare(uint32_t zeros, int pair) {
    return {minus_128(spread_byte(zeros, 2 * pair, 0x43u)), minus_128(spread_byte(zeros, 2 * pair + 1, 0x43u))};
  }
  template <bool zero_points>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints& zero, uint32_t (&a)[4]) {
    raw(words, a);
    if constexpr (zero_points) {
      UNROLL for (int i = 0; i < 4; ++i) a[i] = subtract<bfloat16>(a[i], i % 2 == 0 ? zero.lower : zero.upper);
    }
  }

  static constexpr float lower_unit = 1, upper_unit = 1, base = -128;
  DEVICE static void raw(const uint32_t (&words)[2], uint32_t (&a)[4]) {
    UNROLL for (int i = 0; i < 2; ++i) {
      a[2 * i] = minus_128(byte_permute(words[i], 0x43u, 0x4140));
      a[2 * i + 1] = minus_128(byte_permute(words[i], 0x43u, 0x4342));
    }
  }
};

// Floats of 8 bits. Bytes are spread over the upper halves of 16 bits; from there the sign stays, and exponent and
// mantissa move down by the difference in the widths of the exponents.
template <int down>
DEVICE void spread_floats(const uint32_t (&words)[2], uint32_t (&a)[4]) {
  constexpr uint32_t sign = 0x80008000u, rest = down == 1 ? 0x3f803f80u : 0x07f007f0u;
  UNROLL for (int i = 0; i < 4; ++i) {
    const uint32_t upper = byte_permute(words[i / 2], 0, i % 2 == 0 ? 0x1404 : 0x3424);
    a[i] = lop3<(0xf0 & 0xcc) | 0xaa>(upper, sign, upper >> down & rest);
  }
}

template <>
struct Dequantizer<half, 8, true> {
  static constexpr float unit = 0x1p-8f, middle = 0;
  static constexpr float lower_unit = unit, upper_unit = unit, base = 0;
  static constexpr ZeroPoints center{0, 0};
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints&, uint32_t (&a)[4]) {
    raw(words, a);
  }
  DEVICE static void raw(const uint32_t (&words)[2], uint32_t (&a)[4]) { spread_floats<1>(words, a); }
};

template <>
struct Dequantizer<bfloat16, 8, true> {
  static constexpr float unit = 1, middle = 0;
  static constexpr float lower_unit = unit, upper_unit = unit, base = 0;
  static constexpr ZeroPoints center{0, 0};
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[2], const ZeroPoints&, uint32_t (&a)[4]) {
    raw(words, a);
  }
  DEVICE static void raw(const uint32_t (&words)[2], uint32_t (&a)[4]) {
    spread_floats<4>(words, a);
    const bfloat162 factor = bit_cast<bfloat162>(0x7b807b80u), zero = bit_cast<bfloat162>(0x80008000u);  // 2^120, -0
    UNROLL for (int i = 0; i < 4; ++i) a[i] = bit_cast<uint32_t>(fma2(bit_cast<bfloat162>(a[i]), factor, zero));
  }
};

// Floats of 4 bits: a[i] is shifted so that its signs come to the top of both halves.
template <int down, uint32_t rest>
DEVICE void place_floats(uint32_t word, uint32_t (&a)[4]) {
  UNROLL for (int i = 0; i < 4; ++i) {
    const uint32_t upper = word << (12 - 4 * i);
    a[i] = lop3<(0xf0 & 0xcc) | 0xaa>(upper, 0x80008000u, upper >> down & rest);
  }
}

template <>
struct Dequantizer<half, 4, true> {
  static constexpr float unit = 0x1p-14f, middle = 0;
  static constexpr float lower_unit = unit, upper_unit = unit, base = 0;
  static constexpr ZeroPoints center{0, 0};
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[1], const ZeroPoints&, uint32_t (&a)[4]) {
    raw(words, a);
  }
  DEVICE static void raw(const uint32_t (&words)[1], uint32_t (&a)[4]) { place_floats<3, 0x0e000e00u>(words[0], a); }
};

template <>
struct Dequantizer<bfloat16, 4, true> {
  static constexpr float unit = 1, middle = 0;
  static constexpr float lower_unit = unit, upper_unit = unit, base = 0;
  static constexpr ZeroPoints center{0, 0};
  template <bool>
  DEVICE static void convert(const uint32_t (&words)[1], const ZeroPoints&, uint32_t (&a)[4]) {
    raw(words, a);
  }
  DEVICE static void raw(const uint32_t (&words)[1], uint32_t (&a)[4]) {
    place_floats<6, 0x01c001c0u>(words[0], a);
    const bfloat162 factor = bit_cast<bfloat162>(0x7e807e80u), zero = bit_cast<bfloat162>(0x80008000u);  // 2^126, -0
    UNROLL for (int i = 0; i < 4; ++i) a[i] = bit_cast<uint32_t>(fma2(bit_cast<bfloat162>(a[i]), factor, zero));
  }
};

}  // namespace billfish::BILLFISH_TARGET
