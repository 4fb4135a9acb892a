// Device memory, arenas of it, and page-locked host memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda/memory/allocation.h"
#include "engine/error.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// What device memory and page-locked memory share: an address range with a single owner, which can be moved.
class MemoryBlock {
 public:
  void* data() const { return data_; }
  template <class T>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }
  size_t bytes() const { return bytes_; }

 protected:
  MemoryBlock() = default;
  MemoryBlock(const Device& device, size_t bytes) : device_(&device), bytes_(bytes) {}
  MemoryBlock(MemoryBlock&& other) noexcept { *this = std::move(other); }
  MemoryBlock& operator=(MemoryBlock&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~MemoryBlock() = default;

  const Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Device memory, freed by the destructor (which waits for everything running on the device: never during a step).
// Throws OUT_OF_MEMORY naming the device, the wanted and the free bytes. Its contents are undefined: the emulator
// faults on reads of unwritten bytes. The host must not dereference its address (in the emulator it faults too).
class DeviceMemory : public MemoryBlock {
 public:
  DeviceMemory() = default;
  DeviceMemory(Device& device, size_t bytes);
  DeviceMemory(DeviceMemory&&) noexcept = default;
  DeviceMemory& operator=(DeviceMemory&&) noexcept = default;
  ~DeviceMemory();

 private:
  friend class DeviceArena;
};

// Device memory that is allocated once and handed out in parts. A model has hundreds of weights; separate allocations
// would each waste part of a page.
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

// Page-locked host memory of a device's stage: copies from and to it, on any device, are asynchronous. It must not be
// touched until they are done.
class PinnedMemory : public MemoryBlock {
 public:
  PinnedMemory() = default;
  PinnedMemory(const Device& device, size_t bytes);
  PinnedMemory(PinnedMemory&&) noexcept = default;
  PinnedMemory& operator=(PinnedMemory&&) noexcept = default;
  ~PinnedMemory();
};

// The error for a device that has no room for `bytes` more bytes.
inline Error out_of_memory(const Device& device, size_t bytes) {
  return Error("OUT_OF_MEMORY", device.name() + " cannot hold " + std::to_string(bytes) +
                                    " more bytes: " + std::to_string(device.free_bytes()) + " of " +
                                    std::to_string(device.properties().total_bytes) +
                                    " are free. Give it fewer layers, or a smaller KV cache.");
}

}  // namespace billfish::BILLFISH_TARGET
