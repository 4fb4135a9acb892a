#include "benchmark/harness.h"

#include <algorithm>
#include <cmath>

#include "engine/error.h"
#include "engine/random_weights.h"

namespace billfish::bench {

BenchmarkHarness::BenchmarkHarness(const Target& target, const Program& program,
                                   const std::vector<WeightShape>& weights, const StageLimits& limits,
                                   const Control& control)
    : backend_(make_backend(target.device, target.backend)), control_(control) {
  hooks_ = backend_->benchmark_hooks();
  backend_->prepare(program, weights, limits);
}

Tensor BenchmarkHarness::allocate_activations(int64_t rows, int64_t columns) {
  const DType type = backend_->value_type(ValueClass::activation);
  const size_t bytes = static_cast<size_t>(rows * columns) * byte_size(type);
  return {backend_->allocate(bytes, MemoryUse::buffers), type, rows, columns, columns};
}

// The host has fp32 numbers, which operators take as the residual stream; a norm turns them into activations.
Tensor BenchmarkHarness::random_activations(int64_t rows, int64_t columns) {
  const int64_t piece = std::min<int64_t>(rows, 64);
  const size_t bytes = static_cast<size_t>(piece * columns) * sizeof(float);
  const Tensor residual{backend_->allocate(bytes, MemoryUse::buffers), DType::f32, piece, columns, columns};
  const std::unique_ptr<Weight> ones = backend_->make_vector(std::vector<float>(static_cast<size_t>(columns), 1.0f));
  backend_->from_host(random_vector(piece * columns, -1, 1).data(), residual);
  const Tensor activations = allocate_activations(rows, columns);
  for (int64_t first = 0; first < rows; first += piece) {
    Tensor from = residual, to = activations;
    from.rows = to.rows = std::min(piece, rows - first);
    to.data = static_cast<uint8_t*>(to.data) + static_cast<size_t>(first * columns) * byte_size(to.type);
    backend_->run(Call<RmsNorm>{from, ones.get(), columns, 1e-6f, to});
  }
  hooks_->wait();
  return activations;
}

int BenchmarkHarness::copies_exceeding_caches(uint64_t bytes) const {
  if (!hooks_->times_are_meaningful()) return 2;
  return static_cast<int>(std::max<uint64_t>(2, 3 * hooks_->cache_bytes() / bytes + 1));
}

Timing BenchmarkHarness::measure(int copies, const std::function<void(int copy)>& one) {
  int turn = 0;
  const auto calls = [&](int count) {
    return [&, count] {
      for (int i = 0; i < count; ++i, ++turn) {
        control_.check();
        one(turn % copies);
      }
    };
  };
  calls(1)();
  hooks_->wait();
  int count = copies, runs = 1;
  if (hooks_->times_are_meaningful()) {
    // A run takes at least 2 ms, and each point about half a second. Calls longer than 0.1 s do not depend on where
    // their data was.
    constexpr double min_run = 2e-3, a_point = 0.5, long_call = 0.1;
    const double once = hooks_->seconds(1, calls(1))[0];
    const int enough = static_cast<int>(std::clamp(std::ceil(min_run / std::max(once, 1e-7)), 1.0, 256.0));
    count = once > long_call ? 1 : std::max(copies, enough);
    runs = static_cast<int>(std::clamp(a_point / (once * count), 3.0, 25.0));
  }
  std::vector<double> times = hooks_->seconds(runs, calls(count));
  std::sort(times.begin(), times.end());
  return {times[times.size() / 2] / count, times.front() / count, times.back() / count};
}

}  // namespace billfish::bench
