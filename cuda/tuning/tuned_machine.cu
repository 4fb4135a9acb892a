#include "tuning/tuned_machine.h"

#include <charconv>
#include <cstdlib>
#include <string>

#include "engine/error.h"
#include "gemm/planned_linear.h"
#include "panels/linear.h"

namespace billfish::BILLFISH_TARGET {

static int64_t crossover_wanted() {
  const char* given = std::getenv("BILLFISH_CUDA_CROSSOVER");
  const std::string text = given == nullptr ? "" : given;
  if (text.empty()) return 0;
  if (text == "never") return Crossover::never;
  int64_t rows = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), rows);
  if (error != std::errc() || stop != text.data() + text.size() || rows < min_panel_rows) {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_CROSSOVER is '" + text + "'; it must be a number of rows, at least " +
                                      std::to_string(min_panel_rows) + ", or 'never'.");
  }
  return rows;
}

GemmKernels wanted_kernels(GemmKernels there, const std::string& wanted) {
  if (wanted != "auto" && wanted != "staged" && wanted != "bulk") {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_GEMM is '" + wanted + "'; it must be auto, staged or bulk.");
  }
  if (there == GemmKernels::staged || wanted == "auto") return there;
  return wanted == "bulk" ? GemmKernels::bulk_first : GemmKernels::staged;
}

TunedMachine::TunedMachine(const Device& device) : TunedMachine(device, tuning_of(device.properties().name)) {
  machine_.crossover = crossover_wanted();
  const char* const kernels = std::getenv("BILLFISH_CUDA_GEMM");
  machine_.kernels = wanted_kernels(machine_.kernels, kernels == nullptr || *kernels == 0 ? "auto" : kernels);
}

TunedMachine::TunedMachine(const Device& device, const GemmTuning& tuning)
    : tuning_(tuning), machine_(machine_of(device)) {
  machine_.tuning = &tuning_;
}

}  // namespace billfish::BILLFISH_TARGET
