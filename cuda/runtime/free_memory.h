// How much of a GPU's memory is free, told without taking some of it.
//
// CUDA tells it only to a process that has a context on the device. To make one takes some hundred megabytes there and
// a good part of a second, and fails where another process has the device for itself: too much for a look at devices
// that may never be used. So NVML is asked first, and CUDA only where this process has a context already, or where NVML
// cannot tell.
#pragma once
#include <cstdint>
#include <string>

namespace billfish::cuda {

struct FreeMemory {
  uint64_t bytes = 0;
  bool has_context = false;  // whether this process has one there now
  std::string problem;       // why nothing can be allocated there, with `bytes` 0
};

FreeMemory free_memory(int index, const std::string& pci_bus_id, uint64_t total_bytes);

}  // namespace billfish::cuda
