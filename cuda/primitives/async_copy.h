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
DEVICE CachePolicy evict_last_policy() {
  CachePolicy policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy.value));
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

}  // namespace billfish::BILLFISH_TARGET
