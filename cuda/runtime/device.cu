#include "runtime/device.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "engine/error.h"
#include "platform/code_architecture.h"
#include "platform/cuda_errors.h"
#include "platform/device_discovery.h"
#include "runtime/cuda_calls.h"

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

__global__ void code_architecture_probe() {}

// __CUDA_ARCH__ / 10 of the kernel code loaded on the device: 80 on a Hopper whose driver compiled PTX for 80. All
// kernels are compiled for the same architectures, so one stands for all.
static int loaded_code_architecture(const Device& device, int compute_capability) {
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

static int attribute(const Device& device, cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, device.index()), device, "cudaDeviceGetAttribute");
  return value;
}

Device::Device(int index) : index_(index), name_("cuda:" + std::to_string(index)) {
  const CudaReport report = discover_cuda_devices();
  if (const std::string reason = explain(report); !reason.empty()) {
    throw Error("DEVICE_NOT_FOUND", "There is no device " + name_ + ": " + reason);
  }
  if (index < 0 || static_cast<size_t>(index) >= report.devices.size()) {
    throw Error("DEVICE_NOT_FOUND", "There is no device " + name_ + ": CUDA shows " +
                                        std::to_string(report.devices.size()) +
                                        " device(s), numbered from 0. CUDA_VISIBLE_DEVICES hides devices.");
  }
  const CudaDevice& found = report.devices[static_cast<size_t>(index)];
  properties_.name = found.name;
  properties_.compute_capability = 10 * found.compute_major + found.compute_minor;
  properties_.code_architecture = loaded_code_architecture(*this, properties_.compute_capability);
  properties_.multiprocessors = found.multiprocessors;
  properties_.total_bytes = found.total_bytes;
  properties_.l2_bytes = found.l2_bytes;
  properties_.shared_bytes_per_block = static_cast<uint32_t>(attribute(*this, cudaDevAttrMaxSharedMemoryPerBlockOptin));
  properties_.shared_bytes_per_multiprocessor =
      static_cast<uint32_t>(attribute(*this, cudaDevAttrMaxSharedMemoryPerMultiprocessor));
}

Device& Device::at(int index) {
  static std::mutex mutex;
  static auto& devices = *new std::map<int, Device*>;  // never destroyed
  const std::lock_guard lock(mutex);
  Device*& device = devices[index];
  if (device == nullptr) device = new Device(index);
  return *device;
}

uint64_t Device::free_bytes() const {
  const OnDevice on_device(*this);
  size_t free_bytes = 0, total_bytes = 0;
  check(cudaMemGetInfo(&free_bytes, &total_bytes), *this, "cudaMemGetInfo");
  return free_bytes;
}

// Enables peer access. Returns why it cannot be used; empty if it can.
static std::string open_peer(const Device& device, const Device& peer) {
  int reachable = 0;
  check(cudaDeviceCanAccessPeer(&reachable, device.index(), peer.index()), device, "cudaDeviceCanAccessPeer");
  if (reachable == 0) {
    return device.name() + " does not reach the memory of " + peer.name() +
           " (cudaDeviceCanAccessPeer; 'nvidia-smi topo -p2p r' shows which devices do)";
  }
  const OnDevice on_device(device);
  const cudaError_t error = cudaDeviceEnablePeerAccess(peer.index(), 0);
  if (error == cudaErrorPeerAccessAlreadyEnabled) {
    cudaGetLastError();  // clears it
  } else {
    check(error, device, "cudaDeviceEnablePeerAccess");
  }
  std::string lost = try_peer_memory(device, peer);
  if (!lost.empty()) check(cudaDeviceDisablePeerAccess(peer.index()), device, "cudaDeviceDisablePeerAccess");
  return lost;
}

std::string Device::peer_access_error(const Device& peer) const {
  if (&peer == this) return "";
  static std::mutex mutex;
  static auto& known = *new std::map<std::pair<int, int>, std::string>;  // queried in every step
  const std::lock_guard lock(mutex);
  const auto entry = known.find({index_, peer.index_});
  if (entry != known.end()) return entry->second;
  std::string objection = open_peer(*this, peer);  // nothing is cached if this throws, so it is retried
  return known.emplace(std::pair(index_, peer.index_), std::move(objection)).first->second;
}

void Device::synchronize() const {
  const OnDevice on_device(*this);
  check(cudaDeviceSynchronize(), *this, "cudaDeviceSynchronize");
}

}  // namespace billfish::BILLFISH_TARGET
