// Barriers, fences, and waiting for other blocks or grids.
#pragma once
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

// All threads of the block, at the same call.
DEVICE void sync_threads() { __syncthreads(); }
DEVICE bool sync_threads_or(bool condition) { return __syncthreads_or(condition) != 0; }
DEVICE bool sync_threads_and(bool condition) { return __syncthreads_and(condition) != 0; }

// Barrier 1 to 15 for `threads` of the block's threads (whole warps): sync waits until as many have come, arrive comes
// and goes on. Barrier 0 is sync_threads's.
DEVICE void sync_barrier(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }
DEVICE void arrive_barrier(int id, int threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The lanes of the mask meet, and see what each has written.
DEVICE void sync_warp(uint32_t lanes = 0xffffffffu) { __syncwarp(lanes); }

// What this thread has written is seen by the block, the device, or all devices and the host, before what it writes
// from here on.
DEVICE void fence_block() { __threadfence_block(); }
DEVICE void fence_device() { __threadfence(); }
DEVICE void fence_system() { __threadfence_system(); }

// Calls condition() until it is true. The only way to wait for another block (whose launch must be co_resident): the
// emulator lets others run in between. Read what is waited for with load_acquire.
template <class Condition>
DEVICE void wait_until(const Condition& condition) {
  while (!condition()) {
  }
}

// Programmatic dependent launch (sm_90 and later, launches with `programmatic`): wait until the grid before this one in
// the stream has finished, before anything it wrote is read or anything it reads is written; and let the grid after
// this one begin. Code for older devices neither waits nor lets begin: Stream::overlaps_grids() is false for it.
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

// Ends the grid, and all further work on the device, in an error: where code must not come to.
DEVICE void trap() { __trap(); }

}  // namespace billfish::BILLFISH_TARGET
