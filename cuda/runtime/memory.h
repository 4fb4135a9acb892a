// Device memory, and page-locked host memory.
#pragma once
#include <cstddef>
#include <cstdint>
#include <utility>

#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

// Device memory, freed by the destructor (which waits for everything running on the device: never during a step).
// Throws OUT_OF_MEMORY naming the device, the wanted and the free bytes. Its contents are undefined: the emulator
// faults on reads of unwritten bytes.
class DeviceMemory {
 public:
  // Allocations and parts of arenas are sized and aligned to multiples of this.
  static constexpr size_t granularity = 256;
  static constexpr size_t counted(size_t bytes) { return (bytes + granularity - 1) / granularity * granularity; }
  // Devices allocate physical memory in whole pages of this size.
  static constexpr size_t page = size_t{2} << 20;
  static constexpr size_t in_pages(size_t bytes) { return (bytes + page - 1) / page * page; }

  DeviceMemory() = default;
  DeviceMemory(Device& device, size_t bytes);
  DeviceMemory(DeviceMemory&& other) noexcept { swap(other); }
  DeviceMemory& operator=(DeviceMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~DeviceMemory();

  // A device address. The host must not dereference it (in the emulator it faults too).
  void* data() const { return data_; }
  template <class T>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }
  size_t bytes() const { return bytes_; }

 private:
  friend class DeviceArena;
  void swap(DeviceMemory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  Device* device_ = nullptr;
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// Page-locked host memory: copies from and to it are asynchronous. It must not be touched until they are done.
class PinnedMemory {
 public:
  PinnedMemory() = default;
  PinnedMemory(const Device& device, size_t bytes);
  PinnedMemory(PinnedMemory&& other) noexcept { swap(other); }
  PinnedMemory& operator=(PinnedMemory&& other) noexcept {
    swap(other);
    return *this;
  }
  ~PinnedMemory();

  void* data() const { return data_; }
  template <class T>
  T* as(size_t byte_offset = 0) const {
    return reinterpret_cast<T*>(static_cast<char*>(data_) + byte_offset);
  }
  size_t bytes() const { return bytes_; }

 private:
  void swap(PinnedMemory& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }
  const Device* device_ = nullptr;  // of its stage; every device can copy from and to it
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace billfish::BILLFISH_TARGET
