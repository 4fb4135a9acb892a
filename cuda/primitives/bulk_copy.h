// mbarrier and cp.async.bulk (sm_90 and later): one thread starts a copy of many kilobytes into shared memory, and its
// readers wait at a barrier in shared memory that counts arrivals and bytes.
//
//   if (thread 0) { mbarrier_init(full, 1); fence_mbarrier_init(); }  sync_threads();
//   producer:  mbarrier_arrive_and_expect(full, bytes);  bulk_copy(to, from, bytes, full);
//   consumer:  mbarrier_wait(full, parity);              parity: 0 for the first phase, 1 for the second, 0, ...
//
// A phase ends when the expected arrivals and bytes have come. Before a buffer that threads have read or written is
// filled by a bulk copy, they meet at a barrier. In code for older GPUs these calls trap: choose such kernels by the
// device's code_architecture.
#pragma once
#include <cstdint>

#include "primitives/async_copy.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

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
// Between this thread's writes to shared memory and bulk copies over the same bytes.
DEVICE void fence_async_proxy() {
#if __CUDA_ARCH__ >= 900
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
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
