// Barriers, fences, and waiting for other blocks or grids.
#pragma once
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

// All threads of the block, at the same call.
DEVICE void sync_threads() { __syncthreads(); }
DEVICE bool sync_threads_or(bool condition) { return __syncthreads_or(condition) != 0; }
DEVICE bool sync_threads_and(bool condition) { return __syncthreads_and(condition) != 0; }

// Named barriers 1 to 15 for `threads` of the block's threads (whole warps): sync waits until that many have arrived,
// arrive does not wait. Barrier 0 belongs to sync_threads.
DEVICE void sync_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void arrive_barrier(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// Synchronizes the lanes of the mask, and makes their writes visible to each other.
DEVICE void sync_warp(uint32_t lanes = 0xffffffffu) { __syncwarp(lanes); }

// This thread's earlier writes become visible to the device before its later ones.
DEVICE void fence_device() { __threadfence(); }

// Calls condition() until it is true. The only way to wait for another block (the launch must be co_resident): the
// emulator lets others run in between. Read the awaited value with load_acquire.
template <class Condition>
DEVICE void wait_until(const Condition& condition) {
  while (!condition()) {
  }
}

// Programmatic dependent launch (sm_90 and later, launches with `programmatic`): wait_for_previous_grid() waits until
// the previous grid in the stream has finished; call it before reading what that grid wrote or writing what it reads.
// launch_next_grid() lets the next grid start. In code for older devices both do nothing, and Stream::overlaps_grids()
// is false.
DEVICE void wait_for_previous_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
DEVICE void launch_next_grid() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Fails the grid, and all further work on the device: for unreachable code.
DEVICE void trap() { __trap(); }

}  // namespace billfish::BILLFISH_TARGET
