#include "machine/access.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

namespace billfish::emulator {

static std::string hexadecimal(uintptr_t address) {
  char text[32];
  std::snprintf(text, sizeof(text), "0x%llx", static_cast<unsigned long long>(address));
  return text;
}

static std::string access_text(const char* verb, size_t bytes, const char* space, uintptr_t address) {
  return std::string(verb) + " " + std::to_string(bytes) + " bytes of " + space + " memory at " + hexadecimal(address);
}

// Where an access ends up that never arrives: zeros, whatever was written.
static Place lost_place(size_t bytes) {
  thread_local std::vector<std::byte> nowhere;
  thread_local std::vector<uint8_t> written;
  nowhere.assign(bytes, std::byte{0});
  written.assign(bytes, AddressSpace::settled);
  return {nowhere.data(), written.data()};
}

Place global_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
  const Device& device = *running()->block->grid->launch().device;
  const std::string access = access_text(verb, bytes, "global", address);
  if (const std::string objection = access_objection(device, address, bytes); !objection.empty()) {
    fault(access + ", which " + objection, at);
  }
  const AddressSpace& memory = device_of(address)->memory;
  if (address % alignment != 0) {
    fault(access + " (" + memory.describe(address) + "), which is not a multiple of " + std::to_string(alignment), at);
  }
  const bool reads = std::strstr(verb, "writes") == nullptr;
  if (&memory != &device.memory && (reads ? device.loses_peer_reads : device.loses_peer_writes)) {
    return lost_place(bytes);
  }
  return {memory.bytes_at(address), memory.written_at(address)};
}

Place shared_place_or_fault(uintptr_t address, size_t bytes, size_t alignment, const char* verb, Location at) {
  const std::string access = access_text(verb, bytes, "shared", address - shared_base);
  const size_t size = running()->block->shared.size();
  if (address < shared_base) fault(std::string(verb) + " shared memory through a null pointer", at);
  if (address - shared_base + bytes > size) {
    fault(access + ", and the launch has " + std::to_string(size) + " bytes of it", at);
  }
  fault(access + ", which is not a multiple of " + std::to_string(alignment), at);
}

void fault_unwritten(const char* space, uintptr_t address, const Place& place, size_t bytes, Location at) {
  size_t first = 0;
  while (first < bytes && place.written[first] != 0) ++first;
  const bool shared = std::string(space) == "shared";
  const uintptr_t shown = shared ? address - shared_base : address;
  std::string what = access_text("reads", bytes, space, shown);
  if (!shared) what += " (" + device_of(address)->memory.describe(address) + ")";
  what += ", of which byte " + std::to_string(first) + " was never written";
  if (shared) what += ", or is the target of a copy that was not waited for";
  fault(what, at);
}

void check_overlapping_load(uintptr_t address, const Place& place, size_t bytes, Location at) {
  const uint8_t mark = running()->block->grid->kernel_mark();
  if (std::find(place.written, place.written + bytes, mark) == place.written + bytes) return;
  fault(access_text("reads", bytes, "global", address) + " (" + device_of(address)->memory.describe(address) +
            ") before wait_for_previous_grid(), and a kernel that may still run wrote it",
        at);
}

void fault_overlapping_store(uintptr_t address, size_t bytes, Location at) {
  fault(access_text("writes", bytes, "global", address) + " (" + device_of(address)->memory.describe(address) +
            ") before wait_for_previous_grid(), and a kernel that may still run may use it",
        at);
}

void complete(const AsyncCopy& copy) {
  Block& block = *running()->block;
  std::byte* to = block.shared.data() + copy.to;
  uint8_t* written = block.shared_written.data() + copy.to;
  if (copy.from == 0) {
    std::memset(to, 0, copy.bytes);
    std::memset(written, AddressSpace::settled, copy.bytes);
    return;
  }
  const Place from = global_place(copy.from, copy.bytes, 1, "copies");
  std::memcpy(to, from.bytes, copy.bytes);
  std::memcpy(written, from.written, copy.bytes);
}

void poison(const AsyncCopy& copy) {
  Block& block = *running()->block;
  std::memset(block.shared.data() + copy.to, 0xff, copy.bytes);
  std::memset(block.shared_written.data() + copy.to, 0, copy.bytes);
}

// --- mbarriers.

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
