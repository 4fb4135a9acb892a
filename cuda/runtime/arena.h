// Memory of a device that is allocated at once and used in parts. A model has hundreds of weights: with an allocation
// for each, every one of them would waste part of a page.
#pragma once
#include <cstddef>
#include <vector>

#include "runtime/memory.h"

namespace billfish::BILLFISH_TARGET {

class DeviceArena {
 public:
  // Takes DeviceMemory::in_pages(bytes) of the device, which must outlive the arena. Throws OUT_OF_MEMORY, as
  // DeviceMemory does.
  DeviceArena(Device& device, size_t bytes);
  DeviceArena(const DeviceArena&) = delete;
  DeviceArena& operator=(const DeviceArena&) = delete;
  ~DeviceArena();

  // The address of bytes [offset, offset + bytes), for as long as the arena lives. `offset` is a multiple of
  // DeviceMemory::granularity, the part lies within the arena, and no byte belongs to two parts.
  void* part(size_t offset, size_t bytes);

 private:
  Device& device_;
  size_t bytes_;  // whole pages
  // On a GPU the whole arena. In the emulator one for each part, since it checks bounds, and what was never written, by
  // the allocation: parts stand apart there, and cost no more than the arena.
  std::vector<DeviceMemory> blocks_;
};

}  // namespace billfish::BILLFISH_TARGET
