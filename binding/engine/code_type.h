// What the codes of a quantized weight stand for.
//
//   integer   code - zero point, codes of 4 or 8 bits
//   e4m3      an 8-bit float without zero point:   s eeee mmm   (bias 7)
//             (1 + mmm / 8) * 2^(eeee - 7), subnormals mmm * 2^-9; largest 448; no infinities, 0x7f and 0xff are NaN
#pragma once
#include <cstdint>

#include "engine/dtype.h"

namespace billfish {

enum class CodeType : uint8_t { integer, e4m3 };

inline float e4m3_to_float(uint8_t code) {
  // Under a half's exponent the bits are 2^8 too small, subnormals as well.
  return f16_to_float(static_cast<uint16_t>((code & 0x80u) << 8 | (code & 0x7fu) << 7)) * 256.0f;
}

constexpr bool is_e4m3_nan(uint8_t code) { return (code & 0x7fu) == 0x7fu; }

// The code that stands for 0 where there are no zero points.
constexpr uint32_t code_of_zero(CodeType type, int bits) { return type == CodeType::integer ? 1u << (bits - 1) : 0; }

// What a code stands for before its scale multiplies it; `zero` counts for integers only.
inline float number_of_code(CodeType type, uint32_t code, int zero) {
  if (type == CodeType::e4m3) return e4m3_to_float(static_cast<uint8_t>(code));
  return static_cast<float>(static_cast<int>(code) - zero);
}

}  // namespace billfish
