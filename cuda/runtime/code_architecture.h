// The architecture that the code running on a device was compiled for.
#pragma once
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// __CUDA_ARCH__ / 10 of the kernel code loaded on the device: 80 on a Hopper whose driver compiled PTX for 80. All
// kernels are compiled for the same architectures, so one stands for all. Throws DEVICE_NOT_FOUND, with the remedy, if
// there is no code for the device.
int loaded_code_architecture(const Device& device, int compute_capability);

}  // namespace billfish::BILLFISH_TARGET
