// NVML, which comes with the driver: a GPU's free memory, without using any of it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace billfish {

// The bytes of a GPU that nobody uses. Nothing where the library (a path, or a name that the dynamic linker knows) or
// the GPU is not found, and where what it calls the GPU at this address is not the device of `total_bytes` that CUDA
// shows there, but the whole that a part (MIG) was cut from.
std::optional<uint64_t> nvml_free_bytes(const char* library, const std::string& pci_bus_id, uint64_t total_bytes);

constexpr const char* usual_nvml = "libnvidia-ml.so.1";

}  // namespace billfish
