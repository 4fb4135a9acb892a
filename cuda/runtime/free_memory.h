// How much of a GPU's memory is free, without using any of it.
//
// CUDA answers only in a process that has a context on the device. Creating one takes several hundred megabytes there
// and a good part of a second, and fails where another process has exclusive use of the device: too much for a look at
// devices that may never be used. NVML is therefore asked first, and CUDA only if this process has a context already or
// NVML cannot answer.
#pragma once
#include <cstdint>
#include <string>

namespace billfish::cuda {

struct FreeMemory {
  uint64_t bytes = 0;
  bool has_context = false;  // whether this process has a context there
  std::string problem;       // why nothing can be allocated there; `bytes` is 0 then
};

FreeMemory free_memory(int index, const std::string& pci_bus_id, uint64_t total_bytes);

}  // namespace billfish::cuda
