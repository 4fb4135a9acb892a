// Where a step's batch lies in a device's memory (layer/batch.h), for the largest batch of a stage.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/memory/attention_plan.h"
#include "engine/program.h"

namespace billfish::gpu {

// The largest batch that a stage may be given.
struct BatchLimits {
  int32_t max_rows = 0;
  int32_t max_sequences = 0;
  int32_t max_table_entries = 0;  // of all sequences' block tables together
};

// A sequence's part of the batch, as kernels see it.
struct alignas(32) DeviceSpan {
  int32_t first_row, rows, past;
  int32_t first_block;  // its block table begins at block_tables[first_block]
  int32_t frequencies;  // of its rotary embedding: 0: the program's own; n: set n - 1 of those made for this step
  int32_t slot;         // of its states
};

// How many entries the lists of one attention shape have.
struct alignas(16) AttentionCounts {
  int32_t decode, prefill, merges;
};

// Byte offsets within one block. What every step sends comes first, what may be long and unused last: the copy ends
// with the last thing used.
//
//   image: counts | spans | tokens | positions | row_sequence | logit_rows | decode items, merges | block tables |
//          prefill items | frequencies of sequences
//   then, on the device alone: the program's frequencies, rotary tables
struct BatchLayout {
  // `shapes`: the attention shapes of the stage's layers, each once.
  BatchLayout(const BatchLimits& limits, const std::vector<RopeSpec>& ropes, const std::vector<AttentionShape>& shapes);

  struct AttentionPlaces {
    size_t counts, decode, merges, prefill;
    AttentionCapacity capacity;
  };
  size_t spans, tokens, positions, row_sequence, logit_rows, block_tables;
  std::vector<AttentionPlaces> attention;
  std::vector<size_t> frequencies;  // one a rope: [max_sequences][half]
  size_t image_bytes;
  std::vector<size_t> own_frequencies, rope_tables;
  size_t bytes;
};

}  // namespace billfish::gpu
