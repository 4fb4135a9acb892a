// cp.async in the emulator: a copy lands at the wait that permits reading it, and its target is poisoned until then.
#pragma once
#include <cstdint>

#include "machine/access.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

struct CachePolicy {};
inline CachePolicy evict_first_policy() { return {}; }

template <int bytes>
void cp_async_or_zero(Shared<void> to, Global<const void> from, bool valid, Location at = Location::current()) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  emulator::shared_place(to.address(), bytes, bytes, "cp_async writes", at);
  if (valid) {
    const emulator::Place source = emulator::global_place(from.address(), bytes, bytes, "cp_async reads", at);
    if (emulator::running()->block->may_overlap) emulator::check_overlapping_load(from.address(), source, bytes, at);
  }
  emulator::Thread& self = *emulator::running();
  self.copies.push_back({static_cast<uint32_t>(to.address() - emulator::shared_base), bytes, valid ? from.address() : 0,
                         self.open_group});
  emulator::poison(self.copies.back());
}
template <int bytes>
void cp_async(Shared<void> to, Global<const void> from, Location at = Location::current()) {
  cp_async_or_zero<bytes>(to, from, true, at);
}
inline void cp_async_16(Shared<void> to, Global<const void> from, CachePolicy, Location at = Location::current()) {
  cp_async_or_zero<16>(to, from, true, at);
}

inline void cp_async_commit() { ++emulator::running()->open_group; }

template <int pending>
void cp_async_wait() {
  emulator::Thread& self = *emulator::running();
  std::erase_if(self.copies, [&](const emulator::AsyncCopy& copy) {
    if (copy.group + pending >= self.open_group) return false;
    emulator::complete(copy);
    return true;
  });
}

// --- Bulk copies: mbarrier and cp.async.bulk in the emulator. A barrier's state is kept outside shared memory, keyed
// by its offset; a bulk copy lands when somebody waits for its phase and everyone has arrived.

constexpr bool has_bulk_copies = true;  // a device without them faults

inline void mbarrier_init(Shared<uint64_t> barrier, uint32_t arrivals, Location at = Location::current()) {
  emulator::init_phase_barrier(barrier.address(), arrivals, at);
}
inline void fence_mbarrier_init() {}

inline void mbarrier_arrive(Shared<uint64_t> barrier, Location at = Location::current()) {
  emulator::arrive_at_phase(barrier.address(), 0, at);
}
inline void mbarrier_arrive_and_expect(Shared<uint64_t> barrier, uint32_t bytes, Location at = Location::current()) {
  emulator::require_capability(90, "mbarrier_arrive_and_expect", at);
  emulator::arrive_at_phase(barrier.address(), bytes, at);
}
inline void mbarrier_wait(Shared<uint64_t> barrier, uint32_t parity, Location at = Location::current()) {
  emulator::require_capability(90, "mbarrier_wait", at);
  emulator::wait_for_phase(barrier.address(), parity, at);
}

inline void bulk_copy(Shared<void> to, Global<const void> from, uint32_t bytes, Shared<uint64_t> barrier,
                      Location at = Location::current()) {
  emulator::require_capability(90, "bulk_copy", at);
  emulator::start_bulk_copy(to.address(), from.address(), bytes, barrier.address(), at);
}
inline void bulk_copy(Shared<void> to, Global<const void> from, uint32_t bytes, Shared<uint64_t> barrier, CachePolicy,
                      Location at = Location::current()) {
  emulator::require_capability(90, "bulk_copy", at);
  emulator::start_bulk_copy(to.address(), from.address(), bytes, barrier.address(), at);
}

}  // namespace billfish::BILLFISH_TARGET
