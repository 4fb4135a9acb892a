#include "cpu/cpu_backend.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>
#include <string>

#include "cpu/host_memory.h"
#include "cpu/kernels.h"

namespace billfish::cpu {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

// Of all third-level caches together, as Linux lists them; a large server's size where Linux lists none.
uint64_t last_level_cache_bytes() {
  constexpr uint64_t usual = uint64_t{64} << 20;
  std::set<std::string> seen;
  uint64_t bytes = 0;
  for (int cpu = 0;; ++cpu) {
    const std::string folder = "/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/cache/index3/";
    std::ifstream size_file(folder + "size"), shared_file(folder + "shared_cpu_list");
    uint64_t kibibytes = 0;
    std::string shared;
    if (!(size_file >> kibibytes) || !(shared_file >> shared)) break;
    if (seen.insert(shared).second) bytes += kibibytes << 10;
  }
  return bytes > 0 ? bytes : usual;
}

class CpuBenchmarkHooks final : public BenchmarkHooks {
 public:
  explicit CpuBenchmarkHooks(ThreadPool& pool) : pool_(pool) {}

  std::string machine() const override {
    const int threads = pool_.threads();
    return std::to_string(threads) + (threads == 1 ? " thread, " : " threads, ") + name(instruction_set());
  }
  bool times_are_meaningful() const override { return true; }
  uint64_t cache_bytes() const override { return last_level_cache_bytes(); }
  const char* memory_traffic() const override { return "reading"; }

  // The best of many runs, each as long as a large weight: other work on the machine can only slow it down.
  double memory_rate() override {
    constexpr size_t stretch = size_t{16} << 20;
    const size_t bytes = std::max<size_t>(size_t{256} << 20, 3 * cache_bytes()) / stretch * stretch;
    if (!memory_) {
      memory_ = HostMemory::allocate(bytes, "cpu");
      std::memset(memory_->data(), 1, bytes);
    }
    double best = 0;
    for (size_t first = 0; first < bytes; first += stretch) {
      const Clock::time_point start = Clock::now();
      read(static_cast<const uint8_t*>(memory_->data()) + first, stretch);
      best = std::max(best, static_cast<double>(stretch) / seconds_since(start));
    }
    return best;
  }

  void wait() override {}

  std::vector<double> seconds(int runs, const std::function<void()>& queue) override {
    std::vector<double> times;
    for (int run = 0; run < runs; ++run) {
      const Clock::time_point start = Clock::now();
      queue();
      times.push_back(seconds_since(start));
    }
    return times;
  }

 private:
  // Adds up all bytes on all threads, prefetching as the kernels do, which alone gains a tenth.
  void read(const uint8_t* stretch, size_t bytes) {
    using Vector = uint64_t __attribute__((vector_size(64)));
    constexpr int64_t unroll = 8, line = unroll * sizeof(Vector);
    const Vector* const data = reinterpret_cast<const Vector*>(stretch);
    pool_.parallel_for(static_cast<int64_t>(bytes) / line, 1, [&](int64_t begin, int64_t end) {
      Vector sums[unroll] = {};
      for (int64_t i = begin; i < end; ++i) {
        fetch_weights(reinterpret_cast<const uint8_t*>(data + i * unroll), line);
        for (int64_t j = 0; j < unroll; ++j) {
          sums[j] += data[i * unroll + j];
        }
      }
      for (Vector& sum : sums) asm volatile("" : : "m"(sum));
    });
  }

  ThreadPool& pool_;
  std::optional<HostMemory> memory_;
};

}  // namespace

std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(ThreadPool& pool) {
  return std::make_unique<CpuBenchmarkHooks>(pool);
}

}  // namespace billfish::cpu
