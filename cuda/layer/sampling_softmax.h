// The arithmetic of engine/sampling.cc, operation by operation: rounding happens exactly where the host rounds.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

// exp((logit - highest) / temperature), so that the highest logit has weight 1.
struct Softmax {
  float highest, inverse_temperature;

  DEVICE float weight(float logit) const {
    constexpr float lowest_exponent = -88.0f;  // exp is 0 here and below
    const float exponent = multiply_rounded(add_rounded(logit, -highest), inverse_temperature);
    return exp_of(exponent > lowest_exponent ? exponent : lowest_exponent);
  }

 private:
  //   x = k ln 2 + r with |r| <= ln 2 / 2;  exp(x) = 2^k * (Taylor polynomial of r)
  // Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the lowest bits; 2^k has k + 127 in its exponent.
  DEVICE static float exp_of(float x) {
    constexpr float round = 12582912.0f;
    const float shifted = add_rounded(multiply_rounded(x, 1.44269504f), round);
    const float k = add_rounded(shifted, -round);
    const float r =
        add_rounded(add_rounded(x, -multiply_rounded(k, 0.693359375f)), multiply_rounded(k, 2.12194440e-4f));
    float p = 1.0f / 5040;
    p = add_rounded(multiply_rounded(p, r), 1.0f / 720);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 120);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 24);
    p = add_rounded(multiply_rounded(p, r), 1.0f / 6);
    p = add_rounded(multiply_rounded(p, r), 0.5f);
    p = add_rounded(multiply_rounded(p, r), 1.0f);
    p = add_rounded(multiply_rounded(p, r), 1.0f);
    return multiply_rounded(p, bit_cast<float>((bit_cast<uint32_t>(shifted) + 127u) << 23));
  }
};

// A sort key of a logit and its token, higher for candidates that rank earlier: by the higher logit, then (-0 equals 0)
// the lower token. 0 is below every candidate.
//
//   bits 63..32  the float's bits, as a number in the order of floats     bits 31..0  2^32 - 1 - token
struct RankKey {
  DEVICE static uint64_t of(float logit, uint32_t token) {
    const auto bits = bit_cast<uint32_t>(add_rounded(logit, 0.0f));
    const uint32_t ordered = (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
    return uint64_t{ordered} << 32 | (0xffffffffu - token);
  }
  DEVICE static float logit(uint64_t key) {
    const auto ordered = static_cast<uint32_t>(key >> 32);
    return bit_cast<float>((ordered >> 31) != 0 ? ordered & 0x7fffffffu : ~ordered);
  }
  DEVICE static uint32_t token(uint64_t key) { return 0xffffffffu - static_cast<uint32_t>(key); }
};

}  // namespace billfish::BILLFISH_TARGET
