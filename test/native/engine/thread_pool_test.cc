#include "engine/thread_pool.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "engine/available_cores.h"
#include "engine/error.h"
#include "support/check.h"

using billfish::ThreadPool;

namespace {

// Runs one region and checks that every index is visited once, in pieces that keep the grain.
void check_region(ThreadPool& pool, int64_t count, int64_t grain) {
  std::vector<std::atomic<int>> visits(static_cast<size_t>(count));
  std::atomic<int> uneven{0};
  pool.parallel_for(count, grain, [&](int64_t begin, int64_t end) {
    if (begin % grain != 0 || (end % grain != 0 && end != count) || begin >= end) ++uneven;
    for (int64_t i = begin; i < end; ++i) ++visits[static_cast<size_t>(i)];
  });
  CHECK(uneven == 0);
  for (int64_t i = 0; i < count; ++i) {
    CHECK_MESSAGE(visits[static_cast<size_t>(i)] == 1, "index " << i << " of " << count << ", grain " << grain);
  }
}

// Counts the threads that are inside at once.
class Crowd {
 public:
  void visit(std::chrono::microseconds time) {
    const int now = ++inside_;
    int most = most_.load();
    while (now > most && !most_.compare_exchange_weak(most, now)) continue;
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) continue;
    --inside_;
  }
  int most() const { return most_; }

 private:
  std::atomic<int> inside_{0}, most_{0};
};

}  // namespace

TEST(thread_pool_visits_every_index_once) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    CHECK(pool.threads() == threads);
    for (const int64_t count : {0, 1, 2, 7, 31, 32, 33, 1000}) {
      for (const int64_t grain : {1, 2, 16, 5000}) check_region(pool, count, grain);
    }
  }
}

TEST(thread_pool_survives_many_short_regions) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  for (int64_t region = 0; region < 20000; ++region) {
    pool.parallel_for(4, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
    // Now and then long enough for the helpers to fall asleep.
    if (region % 2000 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  CHECK(sum == 4 * 20000);
}

TEST(thread_pool_helpers_take_part) {
  ThreadPool pool(3);
  std::mutex mutex;
  std::set<std::thread::id> threads;
  // A helper may be late on a busy machine: try for a while.
  for (int attempt = 0; attempt < 200 && threads.size() < 3; ++attempt) {
    pool.parallel_for(12, 1, [&](int64_t, int64_t) {
      std::this_thread::sleep_for(std::chrono::microseconds(500));
      const std::lock_guard<std::mutex> lock(mutex);
      threads.insert(std::this_thread::get_id());
    });
  }
  CHECK_MESSAGE(threads.size() == 3, threads.size() << " threads took part");
}

TEST(thread_pool_runs_nested_calls_serially) {
  ThreadPool pool(4), other(2);
  std::atomic<int> moved{0}, total{0};
  pool.parallel_for(16, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto self = std::this_thread::get_id();
      for (ThreadPool* inner : {&pool, &other}) {
        inner->parallel_for(10, 1, [&](int64_t inner_begin, int64_t inner_end) {
          if (std::this_thread::get_id() != self || inner_begin != 0 || inner_end != 10) ++moved;
          total += static_cast<int>(inner_end - inner_begin);
        });
      }
    }
  });
  CHECK(moved == 0);
  CHECK(total == 16 * 2 * 10);
}

TEST(thread_pool_shares_its_threads_between_callers) {
  for (const int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    Crowd crowd;
    std::atomic<int64_t> sum{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 16; ++caller) {
      callers.emplace_back([&, caller] {
        for (int region = 0; region < 30; ++region) {
          pool.parallel_for(12 + caller, 1, [&](int64_t begin, int64_t end) {
            crowd.visit(std::chrono::microseconds(5));
            sum += end - begin;
          });
          if (region % 10 == caller % 10) std::this_thread::sleep_for(std::chrono::microseconds(200));
        }
      });
    }
    for (std::thread& caller : callers) caller.join();
    CHECK(sum == 30 * (12 * 16 + 15 * 16 / 2));
    CHECK_MESSAGE(crowd.most() <= threads, crowd.most() << " threads computed at once in a pool of " << threads);
  }
}

TEST(thread_pool_lets_no_caller_starve) {
  ThreadPool pool(2);
  std::atomic<bool> done{false};
  std::vector<std::thread> greedy;
  for (int i = 0; i < 2; ++i) {
    greedy.emplace_back([&] {
      Crowd crowd;
      while (!done) pool.parallel_for(8, 1, [&](int64_t, int64_t) { crowd.visit(std::chrono::microseconds(10)); });
    });
  }
  std::atomic<int64_t> sum{0};
  for (int region = 0; region < 20; ++region) {
    pool.parallel_for(8, 1, [&](int64_t begin, int64_t end) { sum += end - begin; });
  }
  done = true;
  for (std::thread& caller : greedy) caller.join();
  CHECK(sum == 20 * 8);
}

TEST(thread_pool_ends_whatever_its_threads_do) {
  for (int i = 0; i < 300; ++i) {
    ThreadPool pool(1 + i % 4);
    if (i % 3 == 0) check_region(pool, 10, 1);
    if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

TEST(thread_pool_refuses_impossible_sizes) {
  CHECK_THROWS(ThreadPool(0), "INVALID_OPTION");
  CHECK_THROWS(ThreadPool(-3), "INVALID_OPTION");
  CHECK_THROWS(ThreadPool(100000), "INVALID_OPTION");
}

TEST(thread_pool_counts_the_available_cores) {
  const int cores = billfish::available_cores();
  CHECK(cores >= 1);
  CHECK(cores <= static_cast<int>(std::thread::hardware_concurrency()));
  if (std::getenv("BILLFISH_THREADS") == nullptr) CHECK(ThreadPool::shared().threads() == cores);
  CHECK(&ThreadPool::shared() == &ThreadPool::shared());
}
