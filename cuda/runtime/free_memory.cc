#include "runtime/free_memory.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <optional>

#include "platform/nvml_library.h"

namespace billfish::cuda {

// Asks the driver: every runtime query would create a context.
static bool has_context(int index) {
  void* const driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return false;
  int device = 0, is_active = 0;
  unsigned flags = 0;
  const auto device_of = reinterpret_cast<int (*)(int*, int)>(dlsym(driver, "cuDeviceGet"));
  const auto state_of = reinterpret_cast<int (*)(int, unsigned*, int*)>(dlsym(driver, "cuDevicePrimaryCtxGetState"));
  const bool is_known = device_of != nullptr && state_of != nullptr && device_of(&device, index) == 0 &&
                        state_of(device, &flags, &is_active) == 0;
  dlclose(driver);
  return is_known && is_active != 0;
}

static FreeMemory ask_cuda(int index) {
  int current = 0;
  cudaGetDevice(&current);
  size_t free_bytes = 0, total_bytes = 0;
  cudaError_t error = cudaSetDevice(index);
  if (error == cudaSuccess) error = cudaMemGetInfo(&free_bytes, &total_bytes);
  cudaGetLastError();  // clear a failed query, or the next launch's check finds it
  if (has_context(current)) cudaSetDevice(current);
  if (error == cudaSuccess) return {free_bytes, true, ""};
  return {0, false, std::string(cudaGetErrorName(error)) + ": " + cudaGetErrorString(error)};
}

FreeMemory free_memory(int index, const std::string& pci_bus_id, uint64_t total_bytes) {
  if (!has_context(index)) {
    const std::optional<uint64_t> bytes = nvml_free_bytes(usual_nvml, pci_bus_id, total_bytes);
    if (bytes) return {*bytes, false, ""};
  }
  return ask_cuda(index);
}

}  // namespace billfish::cuda
