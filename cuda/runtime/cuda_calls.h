// What the CUDA implementation of this folder shares: error codes as engine errors, the current device as a scope, and
// the objects behind Stream, Event and Graph.
#pragma once
#include <cuda_runtime_api.h>

#include "runtime/device.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Throws INTERNAL naming the device, the call and CUDA's message; OUT_OF_MEMORY for cudaErrorMemoryAllocation;
// DEVICE_LOST for an error that ends all work on the device, and for every call after it.
void check(cudaError_t error, const Device& device, const char* call);

// Makes the device current on this thread.
class OnDevice {
 public:
  explicit OnDevice(const Device& device) {
    device.check_not_lost();
    check(cudaSetDevice(device.index()), device, "cudaSetDevice");
  }
};

struct Event::State {
  Device& device;
  cudaEvent_t event = nullptr;
};

struct Graph::State {
  const Device* device = nullptr;
  cudaGraphExec_t graph = nullptr;
};

struct Stream::State {
  cudaStream_t stream = nullptr;
};

}  // namespace billfish::BILLFISH_TARGET
