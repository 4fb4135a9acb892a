#include "backend/stage_memory.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

void StageMemory::reserve(size_t bytes) {
  arena_.emplace(device_, bytes);
  reserved_ = bytes;
  count_.add(gpu::in_pages(bytes) - bytes, MemoryUse::buffers);
}

void* StageMemory::allocate(size_t bytes, MemoryUse use) {
  const bool lendable = use != MemoryUse::weights;
  void* const data = place_for(bytes);
  allocations_.push_back({data, bytes, lendable});
  count_.add(gpu::counted(bytes), use);
  if (lendable) stream_.fill(data, 0, bytes);
  return data;
}

void* StageMemory::place_for(size_t bytes) {
  if (!arena_) return apart_.emplace_back(device_, bytes).data();
  const size_t counted = gpu::counted(bytes);
  if (counted > reserved_ - taken_) {
    throw Error("INTERNAL", "A stage on " + device_.name() + " was planned to hold " + std::to_string(reserved_) +
                                " bytes: it has " + std::to_string(taken_) + " and asks for " +
                                std::to_string(counted) + " more.");
  }
  return arena_->part(std::exchange(taken_, taken_ + counted), bytes);
}

void* StageMemory::allocate_host(size_t bytes) {
  host_.emplace_back(device_, bytes);
  std::memset(host_.back().data(), 0, bytes);
  return host_.back().data();
}

void StageMemory::keep(const void* data) {
  for (Allocation& allocation : allocations_) {
    if (allocation.data == data) allocation.lendable = false;
  }
}

void* StageMemory::borrow(size_t bytes) {
  if (borrowed_ != nullptr) throw Error("INTERNAL", "Memory of " + device_.name() + " is lent twice at a time.");
  if (device_.properties().emulated) check_unwritten();
  const Allocation* largest = nullptr;
  for (const Allocation& allocation : allocations_) {
    if (!allocation.lendable) continue;
    if (largest == nullptr || allocation.bytes > largest->bytes) largest = &allocation;
  }
  borrowed_bytes_ = bytes;
  if (largest != nullptr && largest->bytes >= bytes) {
    borrowed_ = largest->data;
  } else {
    owned_ = DeviceMemory(device_, bytes);
    borrowed_ = owned_.data();
  }
  stream_.fill(borrowed_, 0xff, bytes);
  return borrowed_;
}

// Checks everything that could be borrowed, for this model or a larger one.
void StageMemory::check_unwritten() const {
  constexpr size_t most = 1 << 20;  // the beginning of a huge cache will do
  std::vector<uint8_t> bytes;
  for (const Allocation& allocation : allocations_) {
    if (!allocation.lendable) continue;
    bytes.resize(std::min(allocation.bytes, most));
    stream_.copy_to_host(bytes.data(), allocation.data, bytes.size());
    stream_.synchronize();
    if (std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; })) continue;
    throw Error("INTERNAL", "A buffer of " + std::to_string(allocation.bytes) + " bytes on " + device_.name() +
                                " was written to before weights are loaded, and would be lent.");
  }
}

void StageMemory::return_borrowed() {
  if (owned_.data() == nullptr) {
    stream_.fill(borrowed_, 0, borrowed_bytes_);
  } else {
    owned_ = {};
  }
  borrowed_ = nullptr;
}

}  // namespace billfish::BILLFISH_TARGET
