// Philox4x32-10, the counter-based random number generator of Salmon et al. (2011): random numbers are a function of a
// key and a counter, so there is no state to carry.
#pragma once
#include <array>
#include <cstdint>

namespace billfish {

using PhiloxCounter = std::array<uint32_t, 4>;
using PhiloxKey = std::array<uint32_t, 2>;

constexpr PhiloxCounter philox4x32(PhiloxCounter counter, PhiloxKey key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t first = uint64_t{0xD2511F53} * counter[0];
    const uint64_t second = uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<uint32_t>(second >> 32) ^ counter[1] ^ key[0], static_cast<uint32_t>(second),
               static_cast<uint32_t>(first >> 32) ^ counter[3] ^ key[1], static_cast<uint32_t>(first)};
    key[0] += 0x9E3779B9;
    key[1] += 0xBB67AE85;
  }
  return counter;
}

// A number in [0, 1) with 53 random bits, a function of seed and step.
constexpr double uniform_random(uint64_t seed, uint64_t step) {
  const PhiloxCounter random = philox4x32({static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32), 0, 0},
                                          {static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)});
  const uint64_t bits = (static_cast<uint64_t>(random[1]) << 32 | random[0]) >> 11;
  return static_cast<double>(bits) * 0x1p-53;
}

}  // namespace billfish
