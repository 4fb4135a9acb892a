// Kernels of several tests.
#pragma once
#include <cstdint>

#include "primitives/async_copy.h"
#include "primitives/index.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Bulk copies through two buffers, in phases. The consumer frees a buffer by arriving at `empty`.
template <bool with_wait>
struct BulkPipeline {
  static constexpr int max_threads = 64;
  static constexpr uint32_t bytes = 512, rounds = 6, elements = rounds * bytes / 4;
  static constexpr LaunchShape shape{.block = {64}, .shared_bytes = 2 * bytes + 4 * 8};
  Global<const float> in;
  Global<float> out;

  DEVICE void operator()() const {
    Shared<uint64_t> full = shared_memory<uint64_t>(2 * bytes), empty = full + 2;
    const uint32_t thread = thread_index().x;
    if (thread == 0) {
      for (int i = 0; i < 2; ++i) {
        mbarrier_init(full + i, 1);
        mbarrier_init(empty + i, 32);
      }
      fence_mbarrier_init();
    }
    sync_threads();
    for (uint32_t round = 0; round < rounds; ++round) {
      const uint32_t buffer = round % 2, parity = round / 2 % 2;
      if (thread == 0) {
        if (round >= 2) mbarrier_wait(empty + buffer, parity ^ 1);
        mbarrier_arrive_and_expect(full + buffer, bytes);
        bulk_copy(shared_memory<float>(buffer * bytes), in + round * bytes / 4, bytes, full + buffer);
      } else if (thread >= 32) {
        if constexpr (with_wait) mbarrier_wait(full + buffer, parity);
        const uint4 values = load_as<uint4>(shared_memory<uint4>(buffer * bytes) + (thread - 32));
        store_as<uint4>(pointer_cast<uint4>(out) + round * 32 + (thread - 32), values);
        mbarrier_arrive(empty + buffer);
      }
    }
  }
};

// A counter that every block raises, and all wait for: only co-resident blocks can.
struct WaitForAllBlocks {
  static constexpr int max_threads = 64;
  Global<int32_t> counter;
  Global<int32_t> seen;

  DEVICE void operator()() const {
    if (thread_index().x == 0) {
      add_release(counter, 1);
      wait_until([&] { return load_acquire(counter) == static_cast<int32_t>(grid_size().x); });
    }
    sync_threads();
    if (thread_index().x == 63) seen[block_index().x] = load_acquire(counter);
  }
};

}  // namespace billfish::BILLFISH_TARGET
