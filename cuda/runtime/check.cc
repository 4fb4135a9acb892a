#include "runtime/check.h"

#include <string>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

void check(cudaError_t error, const Device& device, const char* call) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // an error that can be got over must not be found by the next launch's check
  throw Error(
      error == cudaErrorMemoryAllocation ? "OUT_OF_MEMORY" : "INTERNAL",
      device.name() + ": " + call + " failed with " + cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

}  // namespace billfish::BILLFISH_TARGET
