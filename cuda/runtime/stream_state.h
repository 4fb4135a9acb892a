// The CUDA objects behind Stream, Event and Graph.
#pragma once
#include <cuda_runtime_api.h>

#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

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
