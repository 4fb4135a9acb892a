// A step's batch in the device's memory, where the kernels of all layers read it.
//
// Everything lies at fixed places within one block of memory, so that recorded steps (Graph) find the next batch where
// the last one was. upload() fills the block's image in pinned memory and sends what is used of it with one copy.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/batch.h"
#include "engine/program.h"
#include "layer/attention_plan.h"
#include "layer/tensor.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

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
};

// Work of one attention shape in the device's memory. `counts` says how many entries of each list there are; blocks
// beyond them do nothing, so that a recorded launch can provide for more than a step has.
struct DeviceAttentionPlan {
  struct alignas(16) Counts {
    int32_t decode, prefill, merges;
  };
  AttentionShape shape;
  const Counts* counts = nullptr;
  const AttentionItem* decode = nullptr;
  const AttentionItem* prefill = nullptr;
  const AttentionMerge* merges = nullptr;
  Counts launched = {};  // what launches provide for: the last upload's counts, or more
};

class DeviceBatch {
 public:
  // `memory`: device_bytes() bytes of the device, aligned to 256; the caller keeps it. `ropes` and `attention` are
  // those of the stage's program; operators name them by index.
  DeviceBatch(Device& device, void* memory, const BatchLimits& limits, const std::vector<RopeSpec>& ropes,
              const std::vector<AttentionShape>& attention);
  ~DeviceBatch();
  static size_t device_bytes(const BatchLimits& limits, const std::vector<RopeSpec>& ropes,
                             const std::vector<AttentionShape>& attention);

  // Queues the copy. The batch may go once the call returns. Throws INTERNAL when the batch is larger than the limits.
  // With `padded_rows` the batch is followed by rows of no sequence up to that number (token 0, position 0): they leave
  // the cache alone, and what comes out of them is nobody's.
  void upload(Stream& stream, const Batch& batch, int32_t padded_rows = 0);

  // Queues the kernels that compute the rotary tables of the last upload's rows: what is recorded of them serves every
  // batch of as many.
  void make_rope_tables(Stream& stream) const;

  // Rounds what the launches of operators provide for up to powers of two, until the next upload(): what is recorded
  // then serves other batches, too, as long as they have no more work of any kind. Returns all that the launches depend
  // on besides padded_rows.
  std::vector<int32_t> provide_for_more();

  // Addresses of the device. Rows and sequences: those of the last upload.
  int32_t rows() const { return rows_; }
  int32_t sequences() const { return sequences_; }
  const int32_t* tokens() const;        // [rows]
  const int32_t* positions() const;     // [rows]
  const int32_t* row_sequence() const;  // [rows] which sequence a row belongs to; -1: padding
  const int32_t* logit_rows() const;    // the batch's logit_rows
  const DeviceSpan* spans() const;      // [sequences]
  const int32_t* block_tables() const;
  // cos and sin of every row's angles, once they are made: [rows][2 * half], { cos[0..half), sin[0..half) } * scale.
  Matrix<const float> rope_table(int32_t rope) const;
  const DeviceAttentionPlan& attention_plan(int32_t attention) const {
    return attention_[static_cast<size_t>(attention)];
  }

 private:
  struct Layout;  // byte offsets of everything within the block
  template <class T>
  T* at(size_t place) const {
    return reinterpret_cast<T*>(memory_ + place);
  }

  BatchLimits limits_;
  int32_t rows_ = 0, sequences_ = 0;
  std::vector<RopeSpec> ropes_;
  std::vector<DeviceAttentionPlan> attention_;
  std::unique_ptr<Layout> layout_;
  char* memory_;
  PinnedMemory image_;
  Event sent_;  // after the last copy of the image: it may be filled anew
};

}  // namespace billfish::BILLFISH_TARGET
