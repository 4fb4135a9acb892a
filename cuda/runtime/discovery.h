// What the CUDA runtime says about this machine, as the engine's CudaReport.
#pragma once
#include "platform/device_discovery.h"

namespace billfish::cuda {

CudaReport discover();

// What the outcome of cudaGetDeviceCount means. `error` is a cudaError_t; `driver_found` tells whether libcuda.so.1 can
// be loaded, because the runtime gives the same error for no driver and for an old one.
CudaStatus classify(int error, int device_count, bool driver_found);

}  // namespace billfish::cuda
