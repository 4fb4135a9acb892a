// What benchmarks need of a backend besides its operators: time on the device's own clock, and its peak rates, measured
// in the same process.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace billfish {

class Weight;
struct Tensor;

// Belongs to the backend that made it, which must outlive it.
class BenchmarkHooks {
 public:
  virtual ~BenchmarkHooks() = default;

  // The device, for a person: "NVIDIA H200", "16 threads, avx512".
  virtual std::string machine() const = 0;
  // False in the emulator, whose times say nothing about a GPU's.
  virtual bool times_are_meaningful() const = 0;
  // Bytes of the last-level cache: data must exceed them several times to come from memory whenever it is read.
  virtual uint64_t cache_bytes() const = 0;

  // The reference traffic: "copying" (bytes read and written) or "reading".
  virtual const char* memory_traffic() const = 0;
  // Bytes a second that plain memory_traffic() reaches just now.
  virtual double memory_rate() = 0;

  // Waits for everything that operators have queued; throws what failed.
  virtual void wait() = 0;
  // Seconds that the operators called by `queue` take, for each of `runs` runs. Where the device can, the work is
  // captured once (a single call of `queue`) and launched as a graph, so that host time does not count. Everything that
  // `queue` calls must have run before: one-time work must not be captured.
  virtual std::vector<double> seconds(int runs, const std::function<void()>& queue) = 0;

  // The vendor library for 16-bit products with fp32 sums: "cuBLAS"; empty if there is none.
  virtual std::string vendor() const { return {}; }
  // out = x * weight^T with it. False if the library cannot. `weight` is a matrix; all types are that of activations.
  virtual bool vendor_linear(const Tensor& x, const Weight& weight, const Tensor& out) {
    (void)x, (void)weight, (void)out;
    return false;
  }
};

}  // namespace billfish
