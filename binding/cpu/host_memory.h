// Zeroed, 64-byte aligned host memory for weights, KV cache and buffers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

namespace billfish::cpu {

// Large blocks are mapped directly, so that pages are committed only when written (a KV cache costs what is used of it)
// and returned immediately on release; huge pages are requested, since decoding streams through all weights.
class HostMemory {
 public:
  // What an allocation of `bytes` bytes counts: whole cache lines.
  static constexpr uint64_t counted(uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; }
  // Of counted(bytes) bytes. Throws OUT_OF_MEMORY naming the device and the bytes.
  static HostMemory allocate(size_t bytes, const std::string& device);
  HostMemory(HostMemory&& other) noexcept;
  HostMemory& operator=(HostMemory&& other) noexcept;
  ~HostMemory();

  void* data() const noexcept { return data_; }
  uint64_t bytes() const noexcept { return bytes_; }

 private:
  static constexpr uint64_t alignment = 64;
  HostMemory() = default;
  void* data_ = nullptr;
  size_t bytes_ = 0;
  size_t mapped_ = 0;  // bytes mapped from the kernel; 0: from the heap
};

}  // namespace billfish::cpu
