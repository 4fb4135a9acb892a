// Tests whether peer access really works where the driver says it does.
#pragma once
#include <string>

#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// Runs a kernel on `device` that reads a pattern from the peer's memory and writes another one there, with peer access
// enabled. Returns what went wrong, without a period; empty if both arrived. Where an IOMMU redirects transactions
// between PCIe devices, both are lost without any error.
std::string try_peer_memory(const Device& device, const Device& peer);

}  // namespace billfish::BILLFISH_TARGET
