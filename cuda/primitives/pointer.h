// Kernel pointers. On a GPU they are plain pointers; in the emulator they check every access: owner, bounds, alignment,
// and reads of unwritten bytes.
//
//   Global<T>   memory of a device. A T* of the host's code that came from DeviceMemory converts to it.
//   Shared<T>   the block's shared memory: shared_memory<T>(byte offset), sized by the launch.
//
// p[i], *p, p + i, p - q work as usual. Two things do not, so that the emulator can tell loads from stores: name the
// type of what you read (T x = p[i]; not auto x = p[i]), and read a struct whole before you take a member of it.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/numbers.h"

namespace billfish::BILLFISH_TARGET {

template <class T>
using Global = T*;
template <class T>
using Shared = T*;

// The block's shared memory from a byte offset on, a multiple of alignof(T). Offset 0 is 1024-byte aligned.
template <class T>
DEVICE Shared<T> shared_memory(uint32_t byte_offset = 0) {
  extern __shared__ __align__(1024) unsigned char billfish_shared_memory[];
  return reinterpret_cast<T*>(billfish_shared_memory + byte_offset);
}

// The same address with another type.
template <class U, class T>
DEVICE U* pointer_cast(T* pointer) {
  return reinterpret_cast<U*>(pointer);
}

// One access of sizeof(U) bytes, aligned to as many: load_as<uint4>(p), store_as<uint4>(p, value).
template <class U>
DEVICE U load_as(const void* from) {
  return *static_cast<const U*>(from);
}
template <class U>
DEVICE void store_as(void* to, const U& value) {
  *static_cast<U*>(to) = value;
}

// Global loads through the read-only path, for data that no thread writes while the kernel runs.
template <class U>
DEVICE U load_readonly(const void* from) {
  return __ldg(static_cast<const U*>(from));
}
// For data that is read once, such as weights: its cache lines are evicted first.
template <class U>
DEVICE U load_streaming(const void* from) {
  return __ldcs(static_cast<const U*>(from));
}
// A store to global memory that stays one instruction: the compiler sometimes splits a store_as<uint4> into four.
template <class U>
DEVICE void store_whole(void* to, const U& value) {
  __stwb(static_cast<U*>(to), value);
}
// Bypasses the L1 cache, which is not coherent: for data that other blocks wrote in this launch, after a barrier or a
// flag.
template <class U>
DEVICE U load_coherent(const void* from) {
  return __ldcg(static_cast<const U*>(from));
}
DEVICE void prefetch_l2(const void* from) { asm volatile("prefetch.global.L2 [%0];" ::"l"(from)); }

// --- Atomic operations, and accesses in an order, device-wide.

// Returns the old value. T: int32_t, uint32_t, float. Global or shared memory.
template <class T>
DEVICE T atomic_add(T* at, T value) {
  return atomicAdd(at, value);
}

// A flag or counter in global memory: an acquire that reads it sees what was written before the release, by this thread
// and by others before a barrier that this thread passed.
DEVICE int32_t load_acquire(Global<const int32_t> from) {
  int32_t value;
  asm volatile("ld.global.acquire.gpu.b32 %0, [%1];" : "=r"(value) : "l"(from) : "memory");
  return value;
}
DEVICE void add_release(Global<int32_t> to, int32_t value) {
  asm volatile("fence.acq_rel.gpu;\nred.relaxed.gpu.global.add.s32 [%0], %1;" ::"l"(to), "r"(value) : "memory");
}

}  // namespace billfish::BILLFISH_TARGET
