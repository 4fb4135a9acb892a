// Atomic operations and ordered accesses of global memory (shared memory where it says so), device-wide.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// They return the old value. T: int32_t, uint32_t, float. Global or shared memory.
template <class T>
DEVICE T atomic_add(T* at, T value) {
  return atomicAdd(at, value);
}
template <class T>
DEVICE T atomic_max(T* at, T value) {
  return atomicMax(at, value);
}
template <class T>
DEVICE T atomic_exchange(T* at, T value) {
  return atomicExch(at, value);
}
template <class T>
DEVICE T atomic_compare_exchange(T* at, T expected, T value) {
  return atomicCAS(at, expected, value);
}

// A flag or counter in global memory: an acquire that reads it sees what was written before the release, by this thread
// and by others before a barrier that this thread passed.
DEVICE int32_t load_acquire(Global<const int32_t> from) {
  int32_t value;
  asm volatile("ld.global.acquire.gpu.b32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
DEVICE void store_release(Global<int32_t> to, int32_t value) {
  asm volatile("st.global.release.gpu.b32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}
DEVICE void add_release(Global<int32_t> to, int32_t value) {
  asm volatile("fence.acq_rel.gpu;\nred.relaxed.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

}  // namespace billfish::BILLFISH_TARGET
