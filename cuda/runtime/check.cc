#include "runtime/check.h"

#include <string>

#include "engine/error.h"
#include "platform/cuda_errors.h"

namespace billfish::BILLFISH_TARGET {

void check(cudaError_t error, const Device& device, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // clear a recoverable error, or the next launch's check finds it
  const std::string what = std::string(call) + " failed with " + cudaGetErrorName(error) + " (" +
                           std::to_string(static_cast<int>(error)) + "): " + cudaGetErrorString(error);
  if (loses_device(error)) {
    device.mark_lost(what);
    device.check_not_lost();
  }
  throw Error(error == cudaErrorMemoryAllocation ? "OUT_OF_MEMORY" : "INTERNAL", device.name() + ": " + what);
}

}  // namespace billfish::BILLFISH_TARGET
