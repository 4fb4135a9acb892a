// Times attention over a paged KV cache on a device: decode (one row per sequence) and prefill (many).
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "benchmark/harness.h"

namespace billfish::bench {

struct AttentionCase {
  int32_t heads = 0, kv_heads = 0, head_dim = 0;
  int32_t window = 0;     // 0: none
  int32_t sequences = 1;  // each with
  int32_t past = 0;       // positions in the cache, and
  int32_t rows = 1;       // new positions
};

struct AttentionResult {
  size_t index = 0;  // of the case
  Timing timing;
  uint64_t cache_bytes = 0;    // of keys and values read
  double multiplications = 0;  // of queries with keys and of weights with values, after masking
  double memory_rate = 0;      // bytes per second, measured just before
};

struct AttentionMachine {
  std::string name, memory_traffic;
  bool times_are_meaningful = true;
};

// Calls on_result for every case. Throws what backends throw, or ABORTED.
AttentionMachine measure_attention(const Target& target, const std::vector<AttentionCase>& cases,
                                   const Control& control,
                                   const std::function<void(const AttentionResult&)>& on_result);

}  // namespace billfish::bench
