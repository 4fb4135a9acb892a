#include "runtime/code_architecture.h"

#include <cuda_runtime.h>

#include <algorithm>

#include "engine/error.h"
#include "platform/code_architecture.h"
#include "runtime/check.h"

namespace billfish::BILLFISH_TARGET {

__global__ void code_architecture_probe() {}

int loaded_code_architecture(const Device& device, int compute_capability) {
  const OnDevice on_device(device);
  cudaFuncAttributes attributes = {};
  const cudaError_t error = cudaFuncGetAttributes(&attributes, code_architecture_probe);
  if (error == cudaErrorNoKernelImageForDevice || error == cudaErrorInvalidDeviceFunction) {
    cudaGetLastError();  // clears the error: other devices may be fine
    throw Error("DEVICE_NOT_FOUND",
                device.name() + " cannot be used: " + explain_code_architecture(0, compute_capability));
  }
  check(error, device, "cudaFuncGetAttributes");
  // Compiled by the driver from PTX for 80, on a Hopper: ptxVersion 80, binaryVersion 90.
  return std::min({compute_capability, attributes.ptxVersion, attributes.binaryVersion});
}

}  // namespace billfish::BILLFISH_TARGET
