// What measuring needs of a backend beside its operators: time on its device's own clock, and what the device reaches
// at best, measured in the same process.
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

  // What computes, for a person: "NVIDIA H200", "16 threads, avx512".
  virtual std::string machine() const = 0;
  // False in the emulator, whose times say nothing about a GPU's.
  virtual bool times_are_meaningful() const = 0;
  // Bytes of the last-level cache: data must exceed them several times to come from memory whenever it is read.
  virtual uint64_t cache_bytes() const = 0;

  // What is compared with: "copying" (bytes read and written) or "reading".
  virtual const char* memory_traffic() const = 0;
  // Bytes a second that plain memory_traffic() reaches just now.
  virtual double memory_rate() = 0;

  // Waits for all that operators have queued; throws what failed.
  virtual void wait() = 0;
  // How long what `queue` has operators do takes, in seconds, of each of `runs` runs. Where a device can, the work is
  // recorded once and launched as a whole, so that the host's share does not count: then `queue` is called once.
  // Whatever it calls has been called before: what happens on a first call is not to be recorded.
  virtual std::vector<double> seconds(int runs, const std::function<void()>& queue) = 0;

  // The vendor's own multiplication in 16 bits with fp32 sums, "cuBLAS"; empty where there is none.
  virtual std::string vendor() const { return {}; }
  // out = x * weight^T with it. False where it refuses. `weight` is a matrix; all types are that of activations.
  virtual bool vendor_linear(const Tensor& x, const Weight& weight, const Tensor& out) {
    (void)x, (void)weight, (void)out;
    return false;
  }
};

}  // namespace billfish
