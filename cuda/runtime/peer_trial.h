// Does a device really reach the memory of a peer that the driver says it reaches?
#pragma once
#include <string>

#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// Has a kernel on `device` read a pattern from the peer's memory and write another one there, with peer access enabled.
// Returns what went wrong, without a period; empty where both arrived. On machines whose IOMMU redirects transactions
// between PCIe devices, both are lost without any error.
std::string try_peer_memory(const Device& device, const Device& peer);

}  // namespace billfish::BILLFISH_TARGET
