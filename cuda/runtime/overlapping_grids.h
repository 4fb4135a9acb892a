// Programmatic dependent launch: whether a device's streams overlap grids.
#pragma once
#include <cstdlib>
#include <string>

#include "engine/error.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

constexpr int overlapping_architecture = 90;  // the first one with griddepcontrol

// Throws INVALID_OPTION when BILLFISH_CUDA_PDL is neither on nor off.
inline bool may_overlap_grids(const Device& device) {
  const char* text = std::getenv("BILLFISH_CUDA_PDL");
  const std::string value = text == nullptr ? "" : text;
  if (!value.empty() && value != "on" && value != "off") {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_PDL is '" + value + "'; it must be on or off.");
  }
  return value != "off" && device.properties().code_architecture >= overlapping_architecture;
}

}  // namespace billfish::BILLFISH_TARGET
