// NVML, which comes with the driver: a GPU's free memory, without using any of it.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace billfish {

// The free bytes of a GPU. nullopt if the library (a path, or a name for the dynamic linker) or the GPU is not found,
// or if the GPU at this address is not the device of `total_bytes` that CUDA shows but the whole that a MIG part
// belongs to.
std::optional<uint64_t> nvml_free_bytes(const char* library, const std::string& pci_bus_id, uint64_t total_bytes);

constexpr const char* usual_nvml = "libnvidia-ml.so.1";

}  // namespace billfish
