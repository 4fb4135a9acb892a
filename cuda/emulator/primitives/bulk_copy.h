// mbarrier and cp.async.bulk in the emulator. A barrier's state is kept outside shared memory, keyed by its offset; a
// bulk copy lands when somebody waits for its phase and everyone has arrived.
#pragma once
#include <cstdint>

#include "machine/access.h"
#include "machine/phase_barrier.h"
#include "primitives/async_copy.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

constexpr bool has_bulk_copies = true;  // a device without them faults

inline void mbarrier_init(Shared<uint64_t> barrier, uint32_t arrivals, Location at = Location::current()) {
  emulator::init_phase_barrier(barrier.address(), arrivals, at);
}
inline void fence_mbarrier_init() {}
inline void fence_async_proxy() {}

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
