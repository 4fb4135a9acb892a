// The limits that all stages of a model share.
#pragma once
#include <cstdint>

namespace billfish {

struct StageLimits {
  int32_t block_size = 0;      // tokens per KV block
  int32_t block_count = 0;     // KV blocks per layer
  int32_t max_rows = 0;        // tokens per batch
  int32_t max_logit_rows = 0;  // rows that the head computes at a time; more are split into chunks
  int32_t max_sequences = 1;   // slots of every state layer

  // The longest sequence that the KV cache can hold.
  int64_t positions() const { return static_cast<int64_t>(block_size) * block_count; }
};

}  // namespace billfish
