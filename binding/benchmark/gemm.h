// Times linears of given shapes on a device, next to its memory bandwidth and its vendor library in the same run.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "benchmark/harness.h"

namespace billfish::bench {

// Weights on one input that run in one call, like q, k and v.
struct GemmCase {
  std::vector<int64_t> outs;
  int64_t in = 0;
};

struct GemmOptions {
  std::vector<GemmCase> cases;
  std::vector<int64_t> rows;  // of the input
  std::vector<int64_t> bits;  // 4, 8 or 16
  int64_t group_size = 128;   // of quantized weights; 0: one scale per row
  bool zero_points = false;
};

struct GemmResult {
  size_t index = 0;  // of the case
  int64_t bits = 0, rows = 0;
  Timing timing;
  uint64_t weight_bytes = 0;  // as stored on the device
  uint64_t moved_bytes = 0;   // plus input and output
  double memory_rate = 0;     // bytes per second, measured just before
  double vendor_seconds = 0;  // the same in 16 bits with the vendor library; 0 without it
};

// The device, as measured next to the cases.
struct GemmMachine {
  std::string name, memory_traffic, vendor;
  bool times_are_meaningful = true;
  double vendor_flops = 0;  // peak multiplications and additions per second of its library; 0 without it
};

// Calls on_result for every case, number of rows and bits. Throws what backends throw, and ABORTED.
GemmMachine measure_gemm(const Target& target, const GemmOptions& options, const Control& control,
                         const std::function<void(const GemmResult&)>& on_result);

}  // namespace billfish::bench
