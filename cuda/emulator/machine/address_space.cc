#include "machine/address_space.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <new>
#include <utility>

namespace billfish::emulator {

static size_t rounded(size_t bytes) {
  return (bytes + AddressSpace::granule - 1) / AddressSpace::granule * AddressSpace::granule;
}

static void* map_range(size_t bytes, int protection) {
  void* place = mmap(nullptr, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (place == MAP_FAILED) throw std::bad_alloc();
  return place;
}

// Zeroes the bytes and returns whole pages among them to the system.
static void clear(void* place, size_t bytes) {
  const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), begin = reinterpret_cast<uintptr_t>(place);
  const uintptr_t end = begin + bytes, first = (begin + page - 1) / page * page, last = end / page * page;
  if (first >= last) {
    std::memset(place, 0, bytes);
    return;
  }
  std::memset(place, 0, first - begin);
  madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
  std::memset(reinterpret_cast<void*>(last), 0, end - last);
}

// Twice the capacity in addresses, for the gaps between allocations and between what was released.
AddressSpace::AddressSpace(std::string device, uint64_t capacity)
    : device_(std::move(device)), capacity_(capacity), reserved_(2 * rounded(capacity) + granule) {
  base_ = reinterpret_cast<uintptr_t>(map_range(reserved_, PROT_NONE));
  bytes_ = static_cast<std::byte*>(map_range(reserved_, PROT_READ | PROT_WRITE));
  written_ = static_cast<uint8_t*>(map_range(reserved_, PROT_READ | PROT_WRITE));
  owners_ = static_cast<const Allocation**>(map_range(reserved_ / granule * sizeof(void*), PROT_READ | PROT_WRITE));
  holes_[granule] = reserved_;  // nothing at the very beginning, so that an access before it belongs to none
}

AddressSpace::~AddressSpace() {
  munmap(reinterpret_cast<void*>(base_), reserved_);
  munmap(bytes_, reserved_);
  munmap(written_, reserved_);
  munmap(owners_, reserved_ / granule * sizeof(void*));
}

uint64_t AddressSpace::free_bytes() const {
  const std::lock_guard lock(mutex_);
  return capacity_ - used_;
}

// The first hole from next_ on, else from the beginning, that has room; 0 when none has.
uintptr_t AddressSpace::take_hole(size_t size) {
  for (const uintptr_t from : {next_, uintptr_t{0}}) {
    for (auto hole = holes_.begin(); hole != holes_.end(); ++hole) {
      const auto [begin, end] = *hole;
      const uintptr_t start = std::max(begin, from);
      if (start > end || end - start < size) continue;
      holes_.erase(hole);
      if (begin < start) holes_[begin] = start;
      next_ = start + size;
      if (next_ < end) holes_[next_] = end;
      return start;
    }
  }
  return 0;
}

uintptr_t AddressSpace::allocate(size_t bytes) {
  const uint64_t taken = (bytes + page - 1) / page * page;
  const std::lock_guard lock(mutex_);
  if (taken > capacity_ - used_) return 0;
  const uintptr_t address = place(bytes, taken);
  used_ += taken;
  return address;
}

bool AddressSpace::reserve(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (bytes > capacity_ - used_) return false;
  used_ += bytes;
  return true;
}

void AddressSpace::unreserve(uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  used_ -= bytes;
}

uintptr_t AddressSpace::allocate_reserved(size_t bytes) {
  const std::lock_guard lock(mutex_);
  return place(bytes, 0);
}

uintptr_t AddressSpace::place(size_t bytes, uint64_t taken) {
  const size_t size = rounded(bytes);
  const uintptr_t begin = take_hole(size + granule);
  if (begin == 0) throw std::bad_alloc();  // more gaps than there are addresses
  allocations_.push_back({allocations_.size() + 1, begin, bytes, taken, false});
  live_[begin] = &allocations_.back();
  for (uintptr_t at = begin; at < begin + size; at += granule) owners_[at / granule] = &allocations_.back();
  return base_ + begin;
}

void AddressSpace::release(uintptr_t address) {
  const std::lock_guard lock(mutex_);
  const auto found = live_.find(address - base_);
  Allocation& allocation = *found->second;
  const size_t size = rounded(allocation.bytes);
  allocation.released = true;
  live_.erase(found);
  used_ -= allocation.taken;
  clear(owners_ + allocation.begin / granule, size / granule * sizeof(void*));
  clear(bytes_ + allocation.begin, size);
  clear(written_ + allocation.begin, size);

  auto hole = holes_.emplace(allocation.begin, allocation.begin + size + granule).first;
  if (const auto next = std::next(hole); next != holes_.end() && next->first == hole->second) {
    hole->second = next->second;
    holes_.erase(next);
  }
  if (hole != holes_.begin()) {
    if (const auto before = std::prev(hole); before->second == hole->first) {
      before->second = hole->second;
      holes_.erase(hole);
    }
  }
}

void AddressSpace::change_kernel_mark() {
  const uint8_t mark = kernel_mark();
  if (mark < UINT8_MAX) {
    kernel_mark_ = mark + 1;
    return;
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [begin, allocation] : live_) {
    for (uint8_t* at = written_ + begin; at < written_ + begin + allocation->bytes; ++at) {
      if (*at != 0) *at = settled;
    }
  }
  kernel_mark_ = settled + 1;
}

std::string AddressSpace::describe(const Allocation& allocation) const {
  return std::string(allocation.released ? "released " : "") + "allocation " + std::to_string(allocation.number) +
         " (" + std::to_string(allocation.bytes) + " bytes of " + device_ + ")";
}

// The latest allocation that contained the offset, or whose trailing gap does: addresses are reused, so earlier ones
// are irrelevant. Otherwise the last live allocation that starts before it.
const AddressSpace::Allocation* AddressSpace::nearest(uintptr_t offset) const {
  for (auto allocation = allocations_.rbegin(); allocation != allocations_.rend(); ++allocation) {
    const uintptr_t next = allocation->begin + rounded(allocation->bytes) + granule;
    if (offset >= allocation->begin && offset < next) return &*allocation;
  }
  auto after = live_.upper_bound(offset);
  return after == live_.begin() ? nullptr : std::prev(after)->second;
}

Objection AddressSpace::explain(uintptr_t address, size_t bytes) const {
  if (allocated(address, bytes)) return {};
  const std::lock_guard lock(mutex_);
  const uintptr_t offset = address - base_;
  const Allocation* allocation = nearest(offset);
  if (allocation == nullptr) {
    const auto next = live_.lower_bound(offset);
    if (next == live_.end()) return "is in no allocation of " + device_;
    return "is " + std::to_string(next->first - offset) + " bytes before " + describe(*next->second);
  }
  const uintptr_t end = allocation->begin + allocation->bytes;
  if (offset >= end) return "is " + std::to_string(offset - end) + " bytes past the end of " + describe(*allocation);
  if (allocation->released)
    return "is byte " + std::to_string(offset - allocation->begin) + " of " + describe(*allocation);
  return "begins at byte " + std::to_string(offset - allocation->begin) + " and reaches " +
         std::to_string(offset + bytes - end) + " bytes past the end of " + describe(*allocation);
}

std::string AddressSpace::describe(uintptr_t address) const {
  const std::lock_guard lock(mutex_);
  const uintptr_t offset = address - base_;
  const Allocation* allocation = nearest(offset);
  if (allocation == nullptr) return "an address of " + device_;
  return "byte " + std::to_string(offset - allocation->begin) + " of " + describe(*allocation);
}

}  // namespace billfish::emulator
