#include "cuda/runtime/discovery.h"

#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "platform/code_architecture.h"
#include "platform/nvml_library.h"

namespace billfish::cuda {

// The newest CUDA version that the driver supports, from the driver itself: cudaDriverGetVersion returns 0 for a driver
// too old for this runtime. -1 without a driver.
static int installed_driver_version() {
  void* library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (library == nullptr) return -1;
  int version = 0;
  using GetVersion = int (*)(int*);
  if (auto get_version = reinterpret_cast<GetVersion>(dlsym(library, "cuDriverGetVersion"))) get_version(&version);
  dlclose(library);
  return version;
}

static std::string error_text(cudaError_t error) {
  return std::string(cudaGetErrorName(error)) + " (" + std::to_string(static_cast<int>(error)) +
         "): " + cudaGetErrorString(error);
}

CudaStatus classify(int error, int device_count, bool driver_found) {
  switch (error) {
    case cudaSuccess:
      return device_count > 0 ? CudaStatus::available : CudaStatus::no_device;
    case cudaErrorInsufficientDriver:
      return driver_found ? CudaStatus::driver_too_old : CudaStatus::no_driver;
    case cudaErrorNoDevice:
      return CudaStatus::no_device;
    default:
      return CudaStatus::other_error;
  }
}

// --- How much of a GPU's memory is free, without using any of it.
//
// CUDA answers only in a process that has a context on the device. Creating one takes several hundred megabytes there
// and a good part of a second, and fails where another process has exclusive use of the device: too much for a look at
// devices that may never be used. NVML is therefore asked first, and CUDA only if this process has a context already or
// NVML cannot answer.

struct FreeMemory {
  uint64_t bytes = 0;
  bool has_context = false;  // whether this process has a context there
  std::string problem;       // why nothing can be allocated there; `bytes` is 0 then
};

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

static FreeMemory free_memory(int index, const std::string& pci_bus_id, uint64_t total_bytes) {
  if (!has_context(index)) {
    const std::optional<uint64_t> bytes = nvml_free_bytes(usual_nvml, pci_bus_id, total_bytes);
    if (bytes) return {*bytes, false, ""};
  }
  return ask_cuda(index);
}

// --- Devices.

static cudaError_t describe(int index, CudaDevice& device) {
  cudaDeviceProp properties;
  if (cudaError_t error = cudaGetDeviceProperties(&properties, index); error != cudaSuccess) return error;
  char bus_id[32] = "";
  if (cudaError_t error = cudaDeviceGetPCIBusId(bus_id, sizeof(bus_id), index); error != cudaSuccess) return error;
  device.index = index;
  device.name = properties.name;
  device.compute_major = properties.major;
  device.compute_minor = properties.minor;
  // From the list that the kernels were compiled for: asking the kernels themselves would require a context.
  const int capability = 10 * properties.major + properties.minor;
  device.code_architecture = code_architecture(BILLFISH_COMPILED_ARCHITECTURES, capability).value_or(capability);
  device.total_bytes = properties.totalGlobalMem;
  device.multiprocessors = properties.multiProcessorCount;
  device.l2_bytes = static_cast<uint64_t>(properties.l2CacheSize);
  device.pci_bus_id = bus_id;
  const FreeMemory memory = free_memory(index, device.pci_bus_id, device.total_bytes);
  device.free_bytes = memory.bytes;
  device.has_context = memory.has_context;
  device.problem = memory.problem;
  return cudaSuccess;
}

CudaReport discover() {
  CudaReport report;
  cudaRuntimeGetVersion(&report.runtime_version);
  const int driver_version = installed_driver_version();
  report.driver_version = std::max(driver_version, 0);
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  cudaGetLastError();  // clear a failed query, or the next launch's check finds it
  report.status = classify(error, count, driver_version >= 0);
  if (report.status == CudaStatus::available) {
    for (int index = 0; index < count && error == cudaSuccess; ++index) {
      report.devices.emplace_back();
      error = describe(index, report.devices.back());
    }
    if (error != cudaSuccess) {
      report.devices.clear();
      report.status = CudaStatus::other_error;
    }
  }
  if (report.status == CudaStatus::other_error) report.error = error_text(error);
  return report;
}

}  // namespace billfish::cuda
