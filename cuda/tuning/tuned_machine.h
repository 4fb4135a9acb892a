// The device as the cost model sees it: the rates of its kind, corrected by a tuning if there is one.
#pragma once
#include <string>

#include "gemm/tiles.h"
#include "platform/gemm_tuning.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// The kernels to choose from if the device has those in `there` and BILLFISH_CUDA_GEMM is `wanted`: 'auto', or 'staged'
// or 'bulk' to compare them. Throws INVALID_OPTION for anything else.
GemmKernels wanted_kernels(GemmKernels there, const std::string& wanted);

// Fixed for its lifetime, so that a load's choices do not change.
class TunedMachine {
 public:
  // With the tuning that tuning_of() finds for the device's name, and for experiments the crossover of
  // BILLFISH_CUDA_CROSSOVER (a row count for all shapes, or 'never') and the kernels of BILLFISH_CUDA_GEMM. Throws
  // INVALID_OPTION for invalid values.
  explicit TunedMachine(const Device& device);
  TunedMachine(const Device& device, const GemmTuning& tuning);
  TunedMachine(const TunedMachine&) = delete;
  TunedMachine& operator=(const TunedMachine&) = delete;

  const GemmMachine& machine() const { return machine_; }

 private:
  GemmTuning tuning_;
  GemmMachine machine_;
};

}  // namespace billfish::BILLFISH_TARGET
