// A stage's memory: allocations on its device, counted by use, and page-locked host memory.
#pragma once
#include <cstddef>
#include <optional>
#include <vector>

#include "engine/backend.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class StageMemory {
 public:
  // Buffers and cache are zeroed on the stream, which must not outlive this object.
  StageMemory(Device& device, Stream& stream) : device_(device), stream_(stream) {}

  // Called first or never: allocates the bytes of all allocations to come (each rounded as by gpu::counted())
  // at once, in whole pages; the unused rest of the last page counts as a buffer. Without it every allocation is
  // separate. Throws OUT_OF_MEMORY naming device, wanted and free bytes.
  void reserve(size_t bytes);
  // Throws OUT_OF_MEMORY, or INTERNAL if it exceeds what is left of the reserved bytes.
  void* allocate(size_t bytes, MemoryUse use);
  const MemoryCount& count() const { return count_; }
  // Zeroed.
  void* allocate_host(size_t bytes);

  // Marks memory that is written before the weights are loaded and read by steps: it is never borrowed.
  void keep(const void* data);
  // Borrows memory for the time before the model runs: the largest buffer or cache not marked by keep(), if it has
  // `bytes` bytes, else a temporary allocation that is not counted and that return_borrowed() frees. One loan at a
  // time. Filled with bytes that are NaN in every type, so that tests catch a kernel that reads it. Emulated devices
  // throw INTERNAL if something was written there that should have been marked.
  void* borrow(size_t bytes);
  // Zeroes the borrowed memory again. Nothing may still use it.
  void return_borrowed();

 private:
  struct Allocation {
    void* data;
    size_t bytes;
    bool lendable;
  };
  void* place_for(size_t bytes);
  void check_unwritten() const;

  Device& device_;
  Stream& stream_;
  std::optional<DeviceArena> arena_;
  size_t reserved_ = 0, taken_ = 0;  // of the arena
  std::vector<DeviceMemory> apart_;  // without an arena
  std::vector<Allocation> allocations_;
  std::vector<PinnedMemory> host_;
  MemoryCount count_;
  DeviceMemory owned_;
  void* borrowed_ = nullptr;
  size_t borrowed_bytes_ = 0;
};

}  // namespace billfish::BILLFISH_TARGET
