// Device memory that is allocated once and handed out in parts. A model has hundreds of weights; separate allocations
// would each waste part of a page.
#pragma once
#include <cstddef>
#include <vector>

#include "runtime/memory.h"

namespace billfish::BILLFISH_TARGET {

class DeviceArena {
 public:
  // Allocates gpu::in_pages(bytes) on the device, which must outlive the arena. Throws OUT_OF_MEMORY, as
  // DeviceMemory does.
  DeviceArena(Device& device, size_t bytes);
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  ~DeviceArena();

  // The address of bytes [offset, offset + bytes), for as long as the arena lives. `offset` is a multiple of
  // gpu::granularity, the part is within the arena, and parts do not overlap.
  void* part(size_t offset, size_t bytes);

 private:
  Device& device_;
  size_t bytes_;  // whole pages
  // On a GPU the whole arena. In the emulator one block per part, since it checks bounds and unwritten bytes per
  // allocation; the parts cost no more capacity than the arena.
  std::vector<DeviceMemory> blocks_;
};

}  // namespace billfish::BILLFISH_TARGET
