// The device as the cost model sees it: rates of its kind, and what was measured on it, if anything was.
#pragma once
#include "marlin/tiles.h"
#include "marlin/tune.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// The same for as long as it lives: a load's choices do not change.
class TunedMachine {
 public:
  // With the tuning that tuning_of() finds for the device's name, and the crossover of BILLFISH_CUDA_CROSSOVER (a row
  // count for all shapes, or 'never'), which is for experiments. Throws INVALID_OPTION for either that makes no sense.
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
