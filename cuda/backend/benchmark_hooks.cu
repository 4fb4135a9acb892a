#include "backend/benchmark_hooks.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "runtime/memory.h"

namespace billfish::BILLFISH_TARGET {
namespace {

class DeviceBenchmarkHooks final : public BenchmarkHooks {
 public:
  DeviceBenchmarkHooks(Stream& stream, MatrixLibrary* library,
                       std::function<const LinearWeight&(const Weight&)> linear_of)
      : stream_(stream), device_(stream.device()), library_(library), linear_of_(std::move(linear_of)) {}

  std::string machine() const override { return device_.properties().name; }
  bool times_are_meaningful() const override { return !device_.properties().emulated; }
  uint64_t cache_bytes() const override { return device_.properties().l2_bytes; }
  const char* memory_traffic() const override { return "copying"; }

  double memory_rate() override {
    const size_t most = size_t{1} << (device_.properties().emulated ? 20 : 30);
    const size_t bytes = std::min<size_t>(most, device_.free_bytes() / 4);
    const DeviceMemory from(device_, bytes), to(device_, bytes);
    stream_.fill(from.data(), 1, bytes);
    stream_.copy(to.data(), from.data(), bytes);
    wait();
    const std::vector<double> times = seconds(8, [&] { stream_.copy(to.data(), from.data(), bytes); });
    return 2.0 * static_cast<double>(bytes) / *std::min_element(times.begin(), times.end());
  }

  void wait() override { stream_.synchronize(); }

  std::vector<double> seconds(int runs, const std::function<void()>& queue) override {
    const Graph graph = stream_.capture(queue);
    Event start(device_, true), end(device_, true);
    std::vector<double> times;
    for (int run = -1; run < runs; ++run) {  // a graph's first launch uploads it
      stream_.record(start);
      stream_.launch(graph);
      stream_.record(end);
      stream_.synchronize();
      if (run >= 0) times.push_back(Event::milliseconds(start, end) * 1e-3);
    }
    return times;
  }

  std::string vendor() const override { return library_ == nullptr ? "" : "cuBLAS"; }

  bool vendor_linear(const Tensor& x, const Weight& weight, const Tensor& out) override {
    const LinearWeight& matrix = linear_of_(weight);
    if (library_ == nullptr || matrix.bits != 16 || x.type != matrix.element_type || out.type != x.type ||
        x.columns != matrix.in) {
      return false;
    }
    library_->multiply({x.type, out.type, x.rows, matrix.out, matrix.in, x.data, matrix.elements, out.data, x.stride,
                        matrix.stride, out.stride, false});
    return true;
  }

 private:
  Stream& stream_;
  Device& device_;
  MatrixLibrary* library_;
  std::function<const LinearWeight&(const Weight&)> linear_of_;
};

}  // namespace

std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(Stream& stream, MatrixLibrary* library,
                                                     std::function<const LinearWeight&(const Weight&)> linear_of) {
  return std::make_unique<DeviceBenchmarkHooks>(stream, library, std::move(linear_of));
}

}  // namespace billfish::BILLFISH_TARGET
