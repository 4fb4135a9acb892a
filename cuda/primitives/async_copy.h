// cp.async: copies from global to shared memory that bypass registers, in the order
//   cp_async<16>(to, from) ...; cp_async_commit(); ...; cp_async_wait<groups that may still be in flight>();
// A wait makes this thread's own copies visible to this thread; others need a barrier after it. Both addresses must be
// multiples of the size.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// An L2 cache hint for copies. Create it once, before the loop.
struct CachePolicy {
  uint64_t value;
};
DEVICE CachePolicy evict_first_policy() {
  CachePolicy policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy.value));
  return policy;
}

DEVICE uint32_t shared_address(Shared<const void> pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

template <int bytes>
DEVICE void cp_async(Shared<void> to, Global<const void> from) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(to)), "l"(from) : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(shared_address(to)), "l"(from), "n"(bytes)
                 : "memory");
  }
}
// With a cache policy; 16 bytes.
DEVICE void cp_async_16(Shared<void> to, Global<const void> from, CachePolicy policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from),
               "l"(policy.value)
               : "memory");
}
// Reads only if `valid`, else fills with zeros (and `from` may be any address).
template <int bytes>
DEVICE void cp_async_or_zero(Shared<void> to, Global<const void> from, bool valid) {
  static_assert(bytes == 4 || bytes == 8 || bytes == 16);
  const int source_bytes = valid ? bytes : 0;
  if constexpr (bytes == 16) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)), "l"(from), "r"(source_bytes)
                 : "memory");
  } else {
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(shared_address(to)), "l"(from), "n"(bytes),
                 "r"(source_bytes)
                 : "memory");
  }
}

// Makes the copies since the last commit a group.
DEVICE void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most `pending` of this thread's newest groups are in flight.
template <int pending>
DEVICE void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// --- Bulk copies: mbarrier and cp.async.bulk (sm_90 and later): one thread starts a copy of many kilobytes into shared
// memory, and its readers wait at a barrier in shared memory that counts arrivals and bytes.
//
//   if (thread 0) { mbarrier_init(full, 1); fence_mbarrier_init(); }  sync_threads();
//   producer:  mbarrier_arrive_and_expect(full, bytes);  bulk_copy(to, from, bytes, full);
//   consumer:  mbarrier_wait(full, parity);              parity: 0 for the first phase, 1 for the second, 0, ...
//
// A phase ends when the expected arrivals and bytes have come. Before a buffer that threads have read or written is
// filled by a bulk copy, they meet at a barrier. In code for older GPUs these calls trap: choose such kernels by the
// device's code_architecture.

// Whether the architecture being compiled for has these instructions: kernels that need them trap elsewhere.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
constexpr bool has_bulk_copies = false;
#else
constexpr bool has_bulk_copies = true;
#endif

DEVICE void mbarrier_init(Shared<uint64_t> barrier, uint32_t arrivals) {
  asm volatile("mbarrier.init.shared.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}
// After the inits, before the barrier that publishes them.
DEVICE void fence_mbarrier_init() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.mbarrier_init.release.cluster;\nfence.proxy.async.shared::cta;" ::: "memory");
#endif
}

DEVICE void mbarrier_arrive(Shared<uint64_t> barrier) {
  asm volatile("{ .reg .b64 state; mbarrier.arrive.shared.b64 state, [%0]; }" ::"r"(shared_address(barrier))
               : "memory");
}
// Arrives, and adds `bytes` to the bytes that this phase expects.
DEVICE void mbarrier_arrive_and_expect(Shared<uint64_t> barrier, uint32_t bytes) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "{ .reg .b64 state; mbarrier.arrive.expect_tx.shared.b64 state, [%0], %1; }" ::"r"(shared_address(barrier)),
      "r"(bytes)
      : "memory");
#else
  __trap();
#endif
}
// Waits for the phase with this parity to complete.
DEVICE void mbarrier_wait(Shared<uint64_t> barrier, uint32_t parity) {
#if __CUDA_ARCH__ >= 900
  uint32_t done;
  do {
    asm volatile("{ .reg .pred done; mbarrier.try_wait.parity.shared.b64 done, [%1], %2; selp.u32 %0, 1, 0, done; }"
                 : "=r"(done)
                 : "r"(shared_address(barrier)), "r"(parity)
                 : "memory");
  } while (done == 0);
#else
  __trap();
#endif
}

// `bytes` and both addresses are multiples of 16. Called by one thread; the bytes complete on `barrier`.
DEVICE void bulk_copy(Shared<void> to, Global<const void> from, uint32_t bytes, Shared<uint64_t> barrier) {
#if __CUDA_ARCH__ >= 900
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
                   shared_address(to)),
               "l"(from), "r"(bytes), "r"(shared_address(barrier))
               : "memory");
#else
  __trap();
#endif
}
DEVICE void bulk_copy(Shared<void> to, Global<const void> from, uint32_t bytes, Shared<uint64_t> barrier,
                      CachePolicy policy) {
#if __CUDA_ARCH__ >= 900
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::
          "r"(shared_address(to)),
      "l"(from), "r"(bytes), "r"(shared_address(barrier)), "l"(policy.value)
      : "memory");
#else
  __trap();
#endif
}

}  // namespace billfish::BILLFISH_TARGET
