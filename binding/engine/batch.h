// A batch: the flattened tokens of one or many sequences that one step computes.
#pragma once
#include <cstdint>
#include <vector>

namespace billfish {

struct SequenceSpan {
  int32_t first_row = 0;  // its first row in the flattened batch
  int32_t rows = 0;       // its tokens in this step
  int32_t past = 0;       // tokens of it that the KV cache already holds; its rows have positions past, past+1, ...
  const int32_t* blocks = nullptr;  // its block table: position p lives in block blocks[p / block_size]
  int32_t block_count = 0;          // entries of the block table, enough for past + rows positions
  double rope_base = 0;             // base of the rotary embedding for this sequence; 0: the program's own frequencies
  int32_t slot = 0;                 // of its states, in every state layer; no other sequence of the batch has it
};

struct Batch {
  std::vector<int32_t> tokens;          // [rows] token ids
  std::vector<int32_t> positions;       // [rows]
  std::vector<SequenceSpan> sequences;  // in row order, covering all rows
  std::vector<int32_t> block_tables;    // storage behind SequenceSpan::blocks
  std::vector<int32_t> logit_rows;      // rows whose logits are wanted, ascending

  int32_t rows() const { return static_cast<int32_t>(tokens.size()); }
};

}  // namespace billfish
