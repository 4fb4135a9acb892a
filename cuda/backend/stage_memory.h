// A stage's memory: what it holds on its device, counted by use, and page-locked memory of the host.
#pragma once
#include <cstddef>
#include <optional>
#include <vector>

#include "engine/backend.h"
#include "runtime/arena.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class StageMemory {
 public:
  // Queues the zeroing of buffers and cache on the stream, which must not outlive this object.
  StageMemory(Device& device, Stream& stream) : device_(device), stream_(stream) {}

  // Called first or never: takes the bytes of all allocations to come (each counted as DeviceMemory::counted()) at
  // once, in whole pages, of which the rest of the last one counts as a buffer. Without it each is an allocation of its
  // own. Throws OUT_OF_MEMORY naming device, wanted and free bytes.
  void reserve(size_t bytes);
  // Throws OUT_OF_MEMORY, and INTERNAL where it is more than what is left of the bytes that have been reserved.
  void* allocate(size_t bytes, MemoryUse use);
  const MemoryCount& count() const { return count_; }
  // Zeroed.
  void* allocate_host(size_t bytes);

  // Something that steps will read is written here before the weights are loaded: it is not lent.
  void keep(const void* data);
  // Memory that is used only once the model runs, for the time before: the largest buffer or cache that need not be
  // kept, if it has so many bytes, else memory that is given back by end_loan() and not counted. One loan at a time.
  // Filled with bytes that are NaN in every type, so that whoever reads what is lent shows in tests. Emulated devices
  // look whether something was written that should have been kept: INTERNAL.
  void* borrow(size_t bytes);
  // Zeroes what was borrowed again. Nothing may be under way there.
  void end_loan();

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
  DeviceMemory own_loan_;
  void* borrowed_ = nullptr;
  size_t borrowed_bytes_ = 0;
};

}  // namespace billfish::BILLFISH_TARGET
