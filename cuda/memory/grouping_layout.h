// Where the slots of experts lie once they are sorted, in bytes: count of token tiles | tiles | slots.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace billfish::gpu {

constexpr int64_t min_grouped_tokens = 8;  // of a tile
constexpr int64_t max_experts = 4096;      // whose counts are in a block's shared memory

// A tile has slots of one expert. The slots that have no expert here are one more.
constexpr int64_t max_token_tiles(int64_t slots, int64_t experts, int64_t tile_tokens) {
  return std::min(slots, std::min(slots, experts + 1) + slots / tile_tokens);
}

struct GroupingLayout {
  explicit constexpr GroupingLayout(int64_t count, int64_t experts)
      : slots(256 + static_cast<size_t>(max_token_tiles(count, experts, min_grouped_tokens)) * 16),
        bytes(slots + static_cast<size_t>(count) * sizeof(int32_t)) {}
  static constexpr size_t tiles = 256;
  size_t slots, bytes;
};

}  // namespace billfish::gpu
