// The CUDA runtime's view of this machine, as the engine's CudaReport.
#pragma once
#include "platform/device_discovery.h"

namespace billfish::cuda {

CudaReport discover();

// Interprets the result of cudaGetDeviceCount. `error` is a cudaError_t; `driver_found`: whether libcuda.so.1 can be
// loaded, since the runtime returns the same error for a missing driver and an old one.
CudaStatus classify(int error, int device_count, bool driver_found);

}  // namespace billfish::cuda
