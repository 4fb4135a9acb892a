#pragma once
#include <cstddef>
#include <string>

#include "engine/error.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// The error for a device that has no room for `bytes` more bytes.
inline Error out_of_memory(const Device& device, size_t bytes) {
  return Error("OUT_OF_MEMORY", device.name() + " cannot hold " + std::to_string(bytes) +
                                    " more bytes: " + std::to_string(device.free_bytes()) + " of " +
                                    std::to_string(device.properties().total_bytes) +
                                    " are free. Give it fewer layers, or a smaller KV cache.");
}

}  // namespace billfish::BILLFISH_TARGET
