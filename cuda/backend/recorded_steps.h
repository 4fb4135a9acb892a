// Decode steps as CUDA graphs: one call launches what would be a thousand. A rank's step has several parts, a graph
// each: what ranks do together lies between them and is queued as ever, because it takes part in other devices'
// streams, whose recordings know nothing of each other, and because the ranks' threads meet there.
//
// A step is recorded for its number of rows, rounded up so that few graphs serve all numbers, and for what else its
// launches depend on; what differs from step to step lies in the device's memory. Steps that come for the first time
// run as they are: some never come again, and CUDA loads kernels when they are first launched, which a recording
// should not be in the way of. The second one is recorded. A step that ends half-way leaves its other parts for later.
//
// What cannot be recorded, or launched, with overlapping grids (Stream::overlaps_grids) is recorded without, and the
// stage's grids follow each other from then on; what cannot be recorded either way runs as it is. A notice says so.
// BILLFISH_CUDA_GRAPHS=off records nothing.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class RecordedSteps {
 public:
  // Of a stage at a time: the one that was used least recently goes. Their memory is CUDA's own (deviceOverhead).
  static constexpr size_t max_steps = 32;
  // Larger steps take so long that launching costs nothing beside them, and their linears may be a library's.
  static constexpr int64_t max_rows = 224;

  // Throws INVALID_OPTION when BILLFISH_CUDA_GRAPHS is neither on nor off.
  RecordedSteps();

  // The rows that a step of so many is recorded with, at most `most`: 1, 2, 4, 8, then multiples of 8, and of 32 from
  // 64 on. 0: such a step is not recorded. It does not matter whether one could be recorded: ranks agree on their rows.
  int64_t rows_for(int64_t rows, int64_t most) const;

  // A step whose parts, run() one after the other, queue the same on the stream whenever `key` is the same.
  void begin(const std::vector<int32_t>& key);
  // One whose parts run as they are.
  void begin_unrecorded() { current_ = nullptr; }
  // Does what `operators` queues.
  void run(Stream& stream, size_t part, const std::function<void()>& operators);

  // Why nothing is recorded any more, or how it is; told once.
  std::string take_notice();

 private:
  struct Part {
    bool has_run = false;
    std::optional<Graph> graph;  // none yet after the first time
  };
  struct Entry {
    std::vector<int32_t> key;
    uint64_t last_use;
    std::vector<Part> parts;
  };
  Entry& entry_of(const std::vector<int32_t>& key);
  // Whether the part has been recorded, and has been launched then.
  bool record(Stream& stream, Part& part, const std::function<void()>& operators);
  static Graph capture_and_launch(Stream& stream, const std::function<void()>& operators);
  void fail(const Stream& stream, const Error& error);

  const bool wanted_;
  bool on_;  // wanted, and nothing has failed to be recorded
  std::vector<Entry> entries_;
  Entry* current_ = nullptr;  // of the step that has begun, if it is one of them
  uint64_t uses_ = 0;
  std::string notice_;
};

}  // namespace billfish::BILLFISH_TARGET
