// Checked accesses of the running thread: global memory by device address, shared memory by offset.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "machine/grid.h"

namespace billfish::emulator {

// Shared memory's addresses begin here, so that none is a null pointer.
constexpr uintptr_t shared_base = 0x10000;

// Where the bytes of a global access are, and the shadow that says which were written. Faults when they are not this
// device's, or a reached peer's, or not in one allocation, or not aligned.
struct Place {
  std::byte* bytes;
  uint8_t* written;
};
Place global_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at);
Place shared_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at);
// Of programmatic launches before their wait: what kernels of this step wrote may not be read, and nothing be written.
void check_overlapping_load(uintptr_t address, const Place& place, size_t bytes, Location at);
[[noreturn]] void fault_overlapping_store(uintptr_t address, size_t bytes, Location at);
[[noreturn]] void fault_unwritten(const char* space, uintptr_t address, const Place& place, size_t bytes, Location at);

inline Place global_place(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at = {}) {
  const AddressSpace& memory = running()->block->grid->launch().device->memory;
  if (address % alignment == 0 && memory.allocated(address, bytes)) {
    return {memory.bytes_at(address), memory.written_at(address)};
  }
  return global_place_or_fault(address, bytes, alignment, verb, at);
}

inline Place shared_place(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at = {}) {
  Block& block = *running()->block;
  const uintptr_t offset = address - shared_base;
  if (offset % alignment == 0 && offset <= block.shared.size() && bytes <= block.shared.size() - offset) {
    return {block.shared.data() + offset, block.shared_written.data() + offset};
  }
  return shared_place_or_fault(address, bytes, alignment, verb, at);
}

// The two spaces, as parameters of the pointers below.
struct GlobalSpace {
  static constexpr const char* name = "global";
  static Place place(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
    return global_place(address, bytes, alignment, verb, at);
  }
};
struct SharedSpace {
  static constexpr const char* name = "shared";
  static Place place(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
    return shared_place(address, bytes, alignment, verb, at);
  }
};

inline bool all_written(const uint8_t* written, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (written[i] == 0) return false;
  }
  return true;
}

template <class T, class Space>
T load(uintptr_t address, Location at = {}) {
  const Place place = Space::place(address, sizeof(T), sizeof(T), "reads", at);
  if (!all_written(place.written, sizeof(T))) fault_unwritten(Space::name, address, place, sizeof(T), at);
  if (std::is_same_v<Space, GlobalSpace> && running()->block->may_overlap) {
    check_overlapping_load(address, place, sizeof(T), at);
  }
  T value;
  std::memcpy(static_cast<void*>(&value), place.bytes, sizeof(T));
  return value;
}

template <class T, class Space>
void store(uintptr_t address, const T& value, Location at = {}) {
  const Place place = Space::place(address, sizeof(T), sizeof(T), "writes", at);
  std::memcpy(place.bytes, static_cast<const void*>(&value), sizeof(T));
  const Block& block = *running()->block;
  if (std::is_same_v<Space, GlobalSpace> && block.may_overlap) fault_overlapping_store(address, sizeof(T), at);
  std::memset(place.written, block.grid->kernel_mark(), sizeof(T));
}

// What a copy by hardware does: takes bytes as they are, unwritten ones, too.
void complete(const AsyncCopy& copy);
// What its target looks like until then.
void poison(const AsyncCopy& copy);

// --- mbarriers: barriers in shared memory that count arrivals and the bytes of bulk copies, phase by phase.

// `barrier` is the barrier's address in shared memory, 8 bytes.
void init_phase_barrier(uintptr_t barrier, uint32_t arrivals, Location at);
// Arrives, after adding `bytes` to what the phase waits for.
void arrive_at_phase(uintptr_t barrier, uint32_t bytes, Location at);
// Returns once the phase of this parity (the first is 0) has ended.
void wait_for_phase(uintptr_t barrier, uint32_t parity, Location at);
void start_bulk_copy(uintptr_t to, uintptr_t from, uint32_t bytes, uintptr_t barrier, Location at);

}  // namespace billfish::emulator
