// The device as the cost model sees it: rates of its kind, and what was measured on it, if anything was.
#pragma once
#include <string>

#include "gemm/tiles.h"
#include "platform/gemm_tuning.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// The kernels to choose from on a device that has those `there`, where BILLFISH_CUDA_GEMM says `wanted`: 'auto', or
// 'staged' or 'bulk' to compare them. Throws INVALID_OPTION for anything else.
GemmKernels wanted_kernels(GemmKernels there, const std::string& wanted);

// The same for as long as it lives: a load's choices do not change.
class TunedMachine {
 public:
  // With the tuning that tuning_of() finds for the device's name, and what is for experiments: the crossover of
  // BILLFISH_CUDA_CROSSOVER (a row count for all shapes, or 'never') and the kernels of BILLFISH_CUDA_GEMM. Throws
  // INVALID_OPTION for any that makes no sense.
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
