// Barriers, fences and waits in the emulator. Fences do nothing: every thread sees every write immediately. What varies
// is when threads run and when copies land.
#pragma once
#include <cstdint>

#include "machine/grid.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

inline emulator::Barrier& sync_whole_block(bool condition, const char* what, Location at) {
  const auto threads = static_cast<uint32_t>(emulator::running()->block->grid->launch().block.count());
  return emulator::arrive(0, threads, true, true, condition, what, at);
}

inline void sync_threads(Location at = Location::current()) { sync_whole_block(false, "sync_threads", at); }
inline bool sync_threads_or(bool condition, Location at = Location::current()) {
  return sync_whole_block(condition, "sync_threads_or", at).result_or != 0;
}
inline bool sync_threads_and(bool condition, Location at = Location::current()) {
  return sync_whole_block(condition, "sync_threads_and", at).result_and != 0;
}

inline void sync_barrier(int id, int threads, Location at = Location::current()) {
  emulator::arrive(id, static_cast<uint32_t>(threads), false, true, false, "sync_barrier", at);
}
inline void arrive_barrier(int id, int threads, Location at = Location::current()) {
  emulator::arrive(id, static_cast<uint32_t>(threads), false, false, false, "arrive_barrier", at);
}

inline void sync_warp(uint32_t lanes = 0xffffffffu, Location at = Location::current()) {
  char nothing = 0;
  emulator::warp_operation("sync_warp", lanes, nothing, at, [](char**, uint32_t) {});
}

inline void fence_device() {}

template <class Condition>
void wait_until(const Condition& condition, Location at = Location::current()) {
  emulator::Grid& grid = *emulator::running()->block->grid;
  while (!condition()) grid.spin("wait_until", at);
  grid.note_progress();
}

// The previous launch has already finished: launches run completely, one after another. What is checked is that nothing
// is touched before this call that might not be ready on a GPU. Code for devices before sm_90 does not wait, as on a
// GPU.
inline void wait_for_previous_grid() {
  emulator::Block& block = *emulator::running()->block;
  if (block.grid->launch().device->code_architecture >= 90) block.may_overlap = false;
}
inline void launch_next_grid() {}

inline void trap(Location at = Location::current()) { emulator::fault("trap", at); }

}  // namespace billfish::BILLFISH_TARGET
