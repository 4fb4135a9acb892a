// Times linears of given shapes on a device, next to its memory bandwidth and its vendor library in the same run.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "benchmark/harness.h"
#include "engine/code_type.h"

namespace billfish::bench {

// Weights on one input that run in one call, like q, k and v.
struct GemmCase {
  std::vector<int64_t> outs;
  int64_t in = 0;
};

// What the weights are: matrices of 16 bits, or codes. Integers and FP8 have the options' groups and scales of the
// activations' type; NVFP4 and MXFP4 have what their formats say.
enum class GemmWeights { int4, int8, fp8, nvfp4, mxfp4, bits16 };

struct GemmOptions {
  std::vector<GemmCase> cases;
  std::vector<int64_t> rows;  // of the input
  std::vector<GemmWeights> weights;
  int64_t group_size = 128;  // of integers and FP8; 0: one scale per row
  bool zero_points = false;  // of integers
  // Linears of experts, of which every row goes to some: the cases' shapes are one expert's. 0: linears of all rows.
  int64_t experts = 0, per_token = 0;
};

struct GemmResult {
  size_t index = 0;  // of the case
  GemmWeights weights = GemmWeights::bits16;
  int64_t rows = 0;
  Timing timing;
  uint64_t weight_bytes = 0;  // as stored on the device
  uint64_t moved_bytes = 0;   // of the experts that some row goes to, plus input and output
  double memory_rate = 0;     // bytes per second, measured just before
  double vendor_seconds = 0;  // the same in 16 bits with the vendor library; 0 without it
};

// The device, as measured next to the cases.
struct GemmMachine {
  std::string name, memory_traffic, vendor;
  bool times_are_meaningful = true;
  double vendor_flops = 0;  // peak multiplications and additions per second of its library; 0 without it
};

// Calls on_result for every case, number of rows and kind of weights. Throws what backends throw, and ABORTED.
GemmMachine measure_gemm(const Target& target, const GemmOptions& options, const Control& control,
                         const std::function<void(const GemmResult&)>& on_result);

}  // namespace billfish::bench
