// A thread's indices in its launch.
#pragma once
#include <cstdint>

#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

constexpr uint32_t warp_size = 32;

DEVICE uint3 thread_index() { return threadIdx; }
DEVICE uint3 block_index() { return blockIdx; }
DEVICE uint3 block_size() { return {blockDim.x, blockDim.y, blockDim.z}; }
DEVICE uint3 grid_size() { return {gridDim.x, gridDim.y, gridDim.z}; }

// What this code was compiled for: 80, 90, ...
DEVICE int compiled_architecture() {
#ifdef __CUDA_ARCH__
  return __CUDA_ARCH__ / 10;
#else
  return 0;  // in nvcc's host pass, where it never runs
#endif
}

// For one-dimensional blocks.
DEVICE uint32_t lane_index() { return threadIdx.x % warp_size; }
DEVICE uint32_t warp_index() { return threadIdx.x / warp_size; }

// The same as lane_index(), but what follows from it is computed anew wherever this is called, instead of being kept.
DEVICE uint32_t recomputed_lane_index() {
  uint32_t lane;
  asm volatile("mov.u32 %0, %%laneid;" : "=r"(lane));
  return lane;
}

}  // namespace billfish::BILLFISH_TARGET
