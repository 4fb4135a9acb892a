// The emulated devices of the process.
//
// BILLFISH_EMULATED_MEMORY sets the bytes of each (4 GiB by default). With BILLFISH_EMULATED_PEERS=off no device
// reaches another's memory; with =lost all claim to, but a kernel's reads return zeros and its writes vanish, as behind
// an IOMMU that redirects them; with =lost-writes only the writes vanish. BILLFISH_EMULATED_CODE=80 makes them run code
// compiled for compute capability 8.0.
#pragma once
#include <atomic>
#include <cstdint>
#include <string>

#include "machine/address_space.h"

namespace billfish::emulator {

constexpr int device_count = 16;

struct Device {
  explicit Device(int index);

  const int index;
  const std::string name;  // "emulated:0"
  // The first half of the devices are Hoppers (90), the others Amperes (80): for kernels that are chosen by it.
  const int compute_capability;
  // What kernels there are compiled for, at most that: what instructions and waits there are.
  std::atomic<int> code_architecture;
  AddressSpace memory;
  std::atomic<uint32_t> reached = 0;  // bit i: kernels here may access the memory of device i
  std::atomic<bool> loses_peer_reads = false, loses_peer_writes = false;
  std::atomic<int> refused_graphs = 0;  // launches of graphs that are going to fail, for tests
};

// Made when first asked for; index is below device_count.
Device& device(int index);
// The device whose range of addresses this is; null when it is of none.
Device* device_of(uintptr_t address);

// Why `from` may not read or write [address, address + bytes), as the end of a sentence ("the address, which ...");
// empty when it may.
std::string access_objection(const Device& from, uintptr_t address, size_t bytes);

}  // namespace billfish::emulator
