// What the code that runs on a device was compiled for.
#pragma once
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// __CUDA_ARCH__ / 10 of the kernels' code as it is loaded on the device, of whichever architectures it was compiled
// for: 80 on a Hopper whose driver has compiled it from PTX for 80. All kernels are compiled for the same list, so one
// speaks for all. Throws DEVICE_NOT_FOUND when there is no code for the device, with what to do.
int loaded_code_architecture(const Device& device, int compute_capability);

}  // namespace billfish::BILLFISH_TARGET
