// Fills weights in slabs of rows, on all threads.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

#include "engine/backend.h"
#include "engine/thread_pool.h"

namespace billfish {

// Calls fill(first, count) for slabs covering all rows of a weight, on all threads of the pool. The first error stops
// it and is thrown.
template <class Fill>
void for_each_slab(int64_t rows, Fill fill) {
  constexpr int64_t slab = Backend::row_slab;
  std::mutex mutex;
  std::exception_ptr failure;
  std::atomic<bool> stop{false};
  ThreadPool::shared().parallel_for((rows + slab - 1) / slab, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end && !stop.load(std::memory_order_relaxed); ++i) {
      try {
        fill(i * slab, std::min(slab, rows - i * slab));
      } catch (...) {
        stop = true;
        std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
      }
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace billfish
