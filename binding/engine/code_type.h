// What the codes of a quantized weight stand for.
//
//   integer   code - zero point, codes of 4 or 8 bits
//   e4m3      an 8-bit float without zero point:   s eeee mmm   (bias 7)
//             (1 + mmm / 8) * 2^(eeee - 7), subnormals mmm * 2^-9; largest 448; no infinities, 0x7f and 0xff are NaN
//   e2m1      a 4-bit float without zero point:    s ee m       (bias 1)
//             0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives; neither infinities nor NaN
//
// Scales may be bytes as well: e4m3, or e8m0, a power of two alone: 2^(code - 127), of which 0xff is NaN.
#pragma once
#include <cstdint>

#include "engine/dtype.h"

namespace billfish {

enum class CodeType : uint8_t { integer, e4m3, e2m1 };

inline float e4m3_to_float(uint8_t code) {
  // Under a half's exponent the bits are 2^8 too small, subnormals as well.
  return f16_to_float(static_cast<uint16_t>((code & 0x80u) << 8 | (code & 0x7fu) << 7)) * 256.0f;
}

inline float e2m1_to_float(uint32_t code) {
  // As for e4m3; here the exponent is 2^14 too small.
  return f16_to_float(static_cast<uint16_t>((code & 8u) << 12 | (code & 7u) << 9)) * 16384.0f;
}

inline float e8m0_to_float(uint8_t code) {
  if (code == 0xffu) return bits_to_float(0x7fc00000u);
  return bits_to_float(code == 0 ? 0x00400000u : static_cast<uint32_t>(code) << 23);  // 2^-127 is subnormal
}

constexpr bool is_e4m3_nan(uint8_t code) { return (code & 0x7fu) == 0x7fu; }

// The code that stands for 0 where there are no zero points.
constexpr uint32_t code_of_zero(CodeType type, int bits) { return type == CodeType::integer ? 1u << (bits - 1) : 0; }

// What a code stands for before its scale multiplies it; `zero` counts for integers only.
inline float number_of_code(CodeType type, uint32_t code, int zero) {
  if (type == CodeType::e4m3) return e4m3_to_float(static_cast<uint8_t>(code));
  if (type == CodeType::e2m1) return e2m1_to_float(code);
  return static_cast<float>(static_cast<int>(code) - zero);
}

}  // namespace billfish
