// Memory of a stage on the host: zeroed, 64-byte aligned blocks for weights, KV cache and buffers, and operators'
// scratch.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/error.h"

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

// The scratch memory of operators. It holds nothing between calls, so the operators of a stage share it, and its size
// follows from the program: it is allocated, and counted, before the first step.
struct Scratch {
  void* data = nullptr;  // 64-byte aligned
  size_t bytes = 0;
};

// The scratch that a piece of `bytes` bytes takes: pieces are aligned to 64 bytes.
constexpr size_t scratch_piece(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Hands out pieces of a scratch from its start.
class ScratchPieces {
 public:
  explicit ScratchPieces(const Scratch& scratch) : scratch_(scratch) {}

  template <class T>
  T* take(int64_t count) {
    const size_t bytes = scratch_piece(static_cast<size_t>(count) * sizeof(T));
    if (bytes > scratch_.bytes - used_) {
      throw Error("INTERNAL", "an operator needs " + std::to_string(bytes) + " bytes of scratch besides " +
                                  std::to_string(used_) + ", but there are " + std::to_string(scratch_.bytes));
    }
    T* const piece = reinterpret_cast<T*>(static_cast<char*>(scratch_.data) + used_);
    used_ += bytes;
    return piece;
  }

  size_t left() const { return scratch_.bytes - used_; }

 private:
  Scratch scratch_;
  size_t used_ = 0;
};

}  // namespace billfish::cpu
