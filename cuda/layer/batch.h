// A step's batch in device memory, where the kernels of all layers read it.
//
// Everything has a fixed offset within one block of memory, so that graphs find the next batch where the last one was.
// upload() builds the block's image in pinned memory and sends the used part with one copy.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/memory/batch_layout.h"
#include "engine/batch.h"
#include "engine/program.h"
#include "layer/tensor.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

using gpu::AttentionItem, gpu::AttentionMerge, gpu::AttentionShape, gpu::BatchLimits, gpu::DeviceSpan;
using gpu::decode_tile_rows, gpu::prefill_tile_rows;

// The work of one attention shape, in device memory. `counts` has the lengths of the lists; blocks beyond them exit
// immediately, so that a recorded launch can be larger than a step needs.
struct DeviceAttentionPlan {
  using Counts = gpu::AttentionCounts;
  AttentionShape shape;
  const Counts* counts = nullptr;
  const AttentionItem* decode = nullptr;
  const AttentionItem* prefill = nullptr;
  const AttentionMerge* merges = nullptr;
  Counts launched = {};  // the sizes of launches: the last upload's counts, or more
};

class DeviceBatch {
 public:
  // `memory`: BatchLayout::bytes of the device, aligned to 256; the caller keeps it. `ropes` and `attention` are
  // those of the stage's program; operators name them by index.
  DeviceBatch(Device& device, void* memory, const BatchLimits& limits, const std::vector<RopeSpec>& ropes,
              const std::vector<AttentionShape>& attention);

  // Queues the copy; the batch may be destroyed once the call returns. Throws INTERNAL if the batch exceeds the limits.
  // `padded_rows`: pads the batch to that many rows with rows of no sequence (token 0, position 0), which do not touch
  // the cache and whose results are ignored.
  void upload(Stream& stream, const Batch& batch, int32_t padded_rows = 0);

  // Queues the kernels that compute the rotary tables for the rows of the last upload. A capture of them serves every
  // batch with as many rows.
  void make_rope_tables(Stream& stream) const;

  // Rounds the sizes of launches up to powers of two until the next upload(), so that a capture also serves other
  // batches with no more work of any kind. Returns everything that the launches depend on besides padded_rows.
  std::vector<int32_t> provide_for_more();

  // Device addresses. Rows and sequences: those of the last upload.
  int32_t rows() const { return rows_; }
  int32_t sequences() const { return sequences_; }
  // Rows of the sequence that has the fewest, and the most; 1 in a padded batch.
  int32_t shortest() const { return shortest_; }
  int32_t longest() const { return longest_; }
  // What a launch over sequences, one row of blocks each, must be for a capture to serve more of them: in a padded
  // batch, where every sequence has one row, the rows. A sequence whose number is that of a padding row is none.
  int32_t launched_sequences() const { return launched_sequences_; }
  const int32_t* tokens() const;        // [rows]
  const int32_t* positions() const;     // [rows]
  const int32_t* row_sequence() const;  // [rows] which sequence a row belongs to; -1: padding
  const int32_t* logit_rows() const;    // the batch's logit_rows
  const DeviceSpan* spans() const;      // [sequences]
  const int32_t* block_tables() const;
  // cos and sin of every row's angles, after make_rope_tables(): [rows][2 * half], { cos[0..half), sin[0..half) } *
  // scale.
  Matrix<const float> rope_table(int32_t rope) const;
  const DeviceAttentionPlan& attention_plan(int32_t attention) const {
    return attention_[static_cast<size_t>(attention)];
  }

 private:
  template <class T>
  T* at(size_t place) const {
    return reinterpret_cast<T*>(memory_ + place);
  }

  BatchLimits limits_;
  int32_t rows_ = 0, sequences_ = 0, launched_sequences_ = 0, shortest_ = 0, longest_ = 0;
  std::vector<RopeSpec> ropes_;
  std::vector<DeviceAttentionPlan> attention_;
  gpu::BatchLayout layout_;
  char* memory_;
  PinnedMemory image_;
  Event sent_;  // after the last copy of the image, which may then be overwritten
};

// --- Cosines and sines for a step's rotary embeddings, as make_rope_tables() computes them.

struct RopeTableInput {
  const int32_t* positions;      // [rows]
  const int32_t* row_sequence;   // [rows], -1: padding
  const DeviceSpan* spans;       // [sequences]
  const float* own_frequencies;  // [half], the program's
  const float* frequencies;      // [sets][half], those of sequences with a base of their own
  float scale;
};

// angle[r, i] = float(position[r]) * frequency[i], rounded to fp32 as PyTorch does; table[r] = { cos[0..half),
// sin[0..half) } * scale. table.columns is 2 * half.
void compute_rope_table(Stream& stream, const RopeTableInput& input, const Matrix<float>& table);

}  // namespace billfish::BILLFISH_TARGET
