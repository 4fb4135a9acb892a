#include "machine/phase_barrier.h"

#include <string>

#include "machine/access.h"
#include "machine/grid.h"

namespace billfish::emulator {

static constexpr uint32_t barrier_bytes = 8;

static PhaseBarrier& barrier_at(uintptr_t address, Location at) {
  shared_place(address, barrier_bytes, barrier_bytes, "mbarrier uses", at);
  auto& barriers = running()->block->phase_barriers;
  const auto found = barriers.find(static_cast<uint32_t>(address - shared_base));
  if (found == barriers.end()) {
    fault("the mbarrier at byte " + std::to_string(address - shared_base) +
              " of shared memory is used before mbarrier_init (or no barrier was in between)",
          at);
  }
  return found->second;
}

void init_phase_barrier(uintptr_t address, uint32_t arrivals, Location at) {
  shared_place(address, barrier_bytes, barrier_bytes, "mbarrier_init writes", at);
  if (arrivals == 0) fault("mbarrier_init with 0 arrivals: no phase would end", at);
  PhaseBarrier barrier;
  barrier.expected = arrivals;
  running()->block->phase_barriers[static_cast<uint32_t>(address - shared_base)] = barrier;
}

// The bulk copies of a phase land once all of them have been started and everybody has arrived: as late as possible.
static void end_phase_if_complete(PhaseBarrier& barrier) {
  if (barrier.arrived != barrier.expected || barrier.bytes_missing != 0) return;
  for (const AsyncCopy& copy : barrier.copies) complete(copy);
  barrier.copies.clear();
  barrier.arrived = 0;
  ++barrier.phase;
  running()->block->grid->note_progress();
}

void arrive_at_phase(uintptr_t address, uint32_t bytes, Location at) {
  PhaseBarrier& barrier = barrier_at(address, at);
  if (barrier.arrived == barrier.expected) {
    // The phase is complete except for copies that nobody has waited for yet.
    end_phase_if_complete(barrier);
    if (barrier.arrived == barrier.expected) {
      fault("one arrival too many: the phase expects " + std::to_string(barrier.expected) + ", and still misses " +
                std::to_string(barrier.bytes_missing) + " bytes",
            at);
    }
  }
  barrier.bytes_missing += bytes;
  ++barrier.arrived;
  running()->block->grid->note_progress();
}

void wait_for_phase(uintptr_t address, uint32_t parity, Location at) {
  PhaseBarrier& barrier = barrier_at(address, at);
  Grid& grid = *running()->block->grid;
  end_phase_if_complete(barrier);
  while ((barrier.phase & 1) == (parity & 1)) {
    grid.spin("mbarrier_wait", at);
    end_phase_if_complete(barrier);
  }
  grid.note_progress();
}

void start_bulk_copy(uintptr_t to, uintptr_t from, uint32_t bytes, uintptr_t address, Location at) {
  constexpr size_t alignment = 16;
  PhaseBarrier& barrier = barrier_at(address, at);
  if (bytes % alignment != 0)
    fault("bulk_copy of " + std::to_string(bytes) + " bytes; it must be a multiple of 16", at);
  shared_place(to, bytes, alignment, "bulk_copy writes", at);
  const Place source = global_place(from, bytes, alignment, "bulk_copy reads", at);
  if (running()->block->may_overlap) check_overlapping_load(from, source, bytes, at);
  barrier.bytes_missing -= bytes;
  barrier.copies.push_back({static_cast<uint32_t>(to - shared_base), bytes, from});
  poison(barrier.copies.back());
  running()->block->grid->note_progress();
}

}  // namespace billfish::emulator
