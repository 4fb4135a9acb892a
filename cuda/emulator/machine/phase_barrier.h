// mbarriers: barriers in shared memory that count arrivals and the bytes of bulk copies, phase by phase.
#pragma once
#include <cstddef>
#include <cstdint>

#include "machine/location.h"

namespace billfish::emulator {

// `barrier` is the barrier's address in shared memory, 8 bytes.
void init_phase_barrier(uintptr_t barrier, uint32_t arrivals, Location at);
// Arrives, after adding `bytes` to what the phase waits for.
void arrive_at_phase(uintptr_t barrier, uint32_t bytes, Location at);
// Returns once the phase of this parity (the first is 0) has ended.
void wait_for_phase(uintptr_t barrier, uint32_t parity, Location at);
void start_bulk_copy(uintptr_t to, uintptr_t from, uint32_t bytes, uintptr_t barrier, Location at);

}  // namespace billfish::emulator
