#include "runtime/memory.h"

#include <cuda_runtime_api.h>

#include <string>

#include "engine/error.h"
#include "runtime/cuda_calls.h"

namespace billfish::BILLFISH_TARGET {

DeviceMemory::DeviceMemory(Device& device, size_t bytes) : MemoryBlock(device, bytes) {
  if (bytes == 0) return;
  const OnDevice on_device(device);
  const cudaError_t error = cudaMalloc(&data_, gpu::counted(bytes));
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears the error: the process can go on and load something smaller
    throw out_of_memory(device, gpu::counted(bytes));
  }
  check(error, device, "cudaMalloc");
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr || cudaSetDevice(device_->index()) != cudaSuccess) return;
  cudaFree(data_);
}

PinnedMemory::PinnedMemory(const Device& device, size_t bytes) : MemoryBlock(device, bytes) {
  if (bytes == 0) return;
  const OnDevice on_device(device);
  const cudaError_t error = cudaHostAlloc(&data_, bytes, cudaHostAllocPortable);
  if (error == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // clears it
    throw Error("OUT_OF_MEMORY", "Cannot lock " + std::to_string(bytes) + " bytes of host memory for copies to " +
                                     device.name() +
                                     ": the host has not as much left, or this process may not lock it (ulimit -l, the "
                                     "container's limit). Give it more, or lower maxBatchTokens.");
  }
  check(error, device, "cudaHostAlloc");
}

PinnedMemory::~PinnedMemory() {
  if (data_ == nullptr) return;
  cudaSetDevice(device_->index());
  cudaFreeHost(data_);
}

DeviceArena::DeviceArena(Device& device, size_t bytes) : device_(device), bytes_(gpu::in_pages(bytes)) {
  blocks_.emplace_back(device_, bytes_);
}

DeviceArena::~DeviceArena() = default;

void* DeviceArena::part(size_t offset, size_t) { return blocks_.front().as<char>(offset); }

}  // namespace billfish::BILLFISH_TARGET
