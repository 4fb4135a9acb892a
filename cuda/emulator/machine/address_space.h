// The memory of one emulated device.
//
// Device addresses are a reserved range that is never mapped, so a host that dereferences one faults. The bytes are
// elsewhere, at the same offset, together with two shadows: a byte per byte that says whether and by whom it was
// written, and a pointer per 256 bytes that names the allocation. Allocations are spaced apart, so that an access just
// past the end of one belongs to none. All three ranges are reserved up front and cost only what is touched. As on a
// GPU, an allocation takes whole 2 MiB pages of the capacity.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>

namespace billfish::emulator {

// What is wrong with an access, as the end of a sentence; empty if it is fine.
using Objection = std::string;

class AddressSpace {
 public:
  static constexpr size_t granule = 256;
  static constexpr uint64_t page = uint64_t{2} << 20;

  AddressSpace(std::string device, uint64_t capacity);
  ~AddressSpace();
  AddressSpace(const AddressSpace&) = delete;
  AddressSpace& operator=(const AddressSpace&) = delete;

  uint64_t capacity() const { return capacity_; }
  uint64_t free_bytes() const;

  // The address of `bytes` bytes, or 0 when they do not fit.
  uintptr_t allocate(size_t bytes);
  void release(uintptr_t address);

  // Takes `bytes` (whole pages) from the capacity, for allocations that are counted together; false when they do
  // not fit.
  bool reserve(uint64_t bytes);
  void unreserve(uint64_t bytes);
  // The address of `bytes` of the reserved bytes.
  uintptr_t allocate_reserved(size_t bytes);

  bool contains(uintptr_t address) const { return address - base_ < reserved_; }

  // Whether [address, address + bytes) is within one allocation. The fast check: `explain` says why not.
  bool allocated(uintptr_t address, size_t bytes) const {
    const uintptr_t offset = address - base_;
    if (offset >= reserved_) return false;
    const Allocation* allocation = owners_[offset / granule];
    if (allocation == nullptr) return false;
    const uintptr_t end = allocation->begin + allocation->bytes;
    return offset < end && bytes <= end - offset;
  }
  // Of bytes that are allocated: where they are, and each one's mark: 0 when it was never written, settled when it was
  // written by a copy or before the host last waited, else what kernel_mark() was for the kernel that wrote it.
  std::byte* bytes_at(uintptr_t address) const { return bytes_ + (address - base_); }
  uint8_t* written_at(uintptr_t address) const { return written_ + (address - base_); }

  static constexpr uint8_t settled = 1;
  uint8_t kernel_mark() const { return kernel_mark_.load(std::memory_order_relaxed); }
  // Kernels from here on have another mark: the host has waited, so what was written before is there for all.
  void change_kernel_mark();

  // Why [address, address + bytes) is not in one allocation: "is 16 bytes past the end of allocation 3 (...)".
  Objection explain(uintptr_t address, size_t bytes) const;
  // The address in words: "byte 40 of allocation 3 (1024 bytes of emulated:0)".
  std::string describe(uintptr_t address) const;

 private:
  struct Allocation {
    uint64_t number;
    uintptr_t begin;  // as an offset
    size_t bytes;     // as asked for
    uint64_t taken;   // from the capacity
    bool released;
  };
  uintptr_t place(size_t bytes, uint64_t taken);
  uintptr_t take_hole(size_t size);
  std::string describe(const Allocation& allocation) const;
  const Allocation* nearest(uintptr_t offset) const;

  std::string device_;
  uint64_t capacity_;
  uintptr_t reserved_ = 0;
  uintptr_t base_ = 0;
  std::byte* bytes_ = nullptr;
  uint8_t* written_ = nullptr;
  const Allocation** owners_ = nullptr;

  mutable std::mutex mutex_;
  std::deque<Allocation> allocations_;     // all there ever were, for messages
  std::map<uintptr_t, Allocation*> live_;  // by offset
  uintptr_t next_ = 0;                     // where the search for a hole begins: what was released rests a while
  std::map<uintptr_t, uintptr_t> holes_;   // offset -> end of the free range
  uint64_t used_ = 0;
  std::atomic<uint8_t> kernel_mark_ = settled + 1;
};

}  // namespace billfish::emulator
