// The benchmark harness for operators: a prepared backend, random tensors on it, and timing of calls that cycle through
// data larger than any cache.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends.h"
#include "engine/backend.h"
#include "engine/control.h"

namespace billfish::bench {

struct Target {
  std::string device;
  BackendOptions backend;
};

// Seconds of one call.
struct Timing {
  double median = 0, fastest = 0, slowest = 0;
};

class BenchmarkHarness {
 public:
  BenchmarkHarness(const Target& target, const Program& program, const std::vector<WeightShape>& weights,
                   const StageLimits& limits, const Control& control);

  Backend& backend() { return *backend_; }
  BenchmarkHooks& benchmark_hooks() { return *hooks_; }

  // Random activations, and space for outputs. Only after the backend has all weights (finish_loading()).
  Tensor random_activations(int64_t rows, int64_t columns);
  Tensor allocate_activations(int64_t rows, int64_t columns);

  // How many copies of `bytes` bytes exceed three times the caches; two if times are meaningless.
  int copies_exceeding_caches(uint64_t bytes) const;

  // Times calls of `one` with 0, 1, ..., copies - 1, 0, ... in turn.
  Timing measure(int copies, const std::function<void(int copy)>& one);

 private:
  std::unique_ptr<Backend> backend_;
  std::unique_ptr<BenchmarkHooks> hooks_;
  const Control& control_;
};

}  // namespace billfish::bench
