// Bytes on a device by what they are used for: of allocations that were made, or that a plan says will be.
#pragma once
#include <cstdint>
#include <string>

#include "engine/error.h"

namespace billfish {

enum class MemoryUse { weights, kv_cache, states, buffers };

// Larger counts are refused: JavaScript's numbers do not tell them apart, and no machine has so many bytes.
constexpr uint64_t max_bytes = uint64_t{1} << 53;

[[noreturn]] inline void refuse_bytes() {
  throw Error(
      "UNSUPPORTED_MODEL",
      "A stage of this model would hold more than 2^53 bytes (8 PiB). Its config, maxModelLength, maxSequences or "
      "maxBatchTokens is larger than any machine.");
}

// a * b, neither of them negative. Throws UNSUPPORTED_MODEL beyond max_bytes.
inline uint64_t bytes_product(uint64_t a, uint64_t b) {
  if (a != 0 && b > max_bytes / a) refuse_bytes();
  return a * b;
}

// Each allocation counts as what its backend makes of it: rounded up to the backend's granularity, so that a count made
// from shapes alone equals that of the allocations themselves.
struct MemoryCount {
  uint64_t weights = 0, kv_cache = 0, states = 0, buffers = 0;

  uint64_t total() const { return weights + kv_cache + states + buffers; }

  // Throws UNSUPPORTED_MODEL beyond max_bytes.
  void add(uint64_t bytes, MemoryUse use) {
    if (bytes > max_bytes || total() + bytes > max_bytes) refuse_bytes();
    of(use) += bytes;
  }

 private:
  uint64_t& of(MemoryUse use) {
    switch (use) {
      case MemoryUse::weights:
        return weights;
      case MemoryUse::kv_cache:
        return kv_cache;
      case MemoryUse::states:
        return states;
      case MemoryUse::buffers:
        break;
    }
    return buffers;
  }
};

}  // namespace billfish
