// Decode steps as CUDA graphs: one launch instead of about a thousand. A rank's step has several parts, one graph each:
// the collectives between them are queued as usual, since they involve other devices' streams, which are captured
// separately, and host barriers.
//
// A graph is keyed by the number of rows, rounded up so that few graphs cover all counts, and by whatever else its
// launches depend on; everything else that changes from step to step is read from device memory. The first step with a
// key runs eagerly, because some never recur and because CUDA loads kernels at their first launch, which capture should
// not include. The second one is captured. A step that stops half-way leaves its remaining parts uncaptured.
//
// What cannot be captured or launched with overlapping grids (Stream::overlaps_grids) is captured without them, and the
// stage's grids no longer overlap; what cannot be captured either way runs eagerly. A notice reports it.
// BILLFISH_CUDA_GRAPHS=off disables capture.
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
  // Recorded steps per stage, evicted by least recent use. Their memory is CUDA's own (deviceOverhead).
  static constexpr size_t max_steps = 32;
  // Larger steps take so long that launch overhead does not matter, and their linears may use cuBLAS.
  static constexpr int64_t max_rows = 224;

  // Throws INVALID_OPTION when BILLFISH_CUDA_GRAPHS is neither on nor off.
  RecordedSteps();

  // The rows that a step of `rows` rows is recorded with, at most `most`: 1, 2, 4, 8, then multiples of 8, and of 32
  // from 64 on. 0: such a step is not recorded. Independent of whether recording works, so that ranks agree on their
  // rows.
  int64_t rows_for(int64_t rows, int64_t most) const;

  // Begins a step whose parts, run() in order, queue the same work whenever `key` is the same.
  void begin(const std::vector<int32_t>& key);
  // Begins a step whose parts run eagerly.
  void begin_unrecorded() { current_ = nullptr; }
  // Runs what `operators` queues: eagerly, or from the part's graph.
  void run(Stream& stream, size_t part, const std::function<void()>& operators);

  // Why recording has stopped or changed; returned once.
  std::string take_notice();

 private:
  struct Part {
    bool has_run = false;
    std::optional<Graph> graph;  // none yet after the first run
  };
  struct Entry {
    std::vector<int32_t> key;
    uint64_t last_use;
    std::vector<Part> parts;
  };
  Entry& entry_of(const std::vector<int32_t>& key);
  // Captures and launches the part; returns whether that worked.
  bool record(Stream& stream, Part& part, const std::function<void()>& operators);
  static Graph capture_and_launch(Stream& stream, const std::function<void()>& operators);
  void fail(const Stream& stream, const Error& error);

  const bool wanted_;
  bool on_;  // wanted, and no capture has failed
  std::vector<Entry> entries_;
  Entry* current_ = nullptr;  // the current step's, if it is recorded
  uint64_t uses_ = 0;
  std::string notice_;
};

}  // namespace billfish::BILLFISH_TARGET
