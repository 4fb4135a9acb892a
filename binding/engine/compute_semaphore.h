// A semaphore that bounds how many threads of the pool compute at a time, with callers ahead of helpers.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "engine/spin.h"

namespace billfish {

class ComputeSemaphore {
 public:
  explicit ComputeSemaphore(int total) : total_(total) {}

  // For a caller with a region: waits for a permit. Helpers yield theirs after the current piece.
  void acquire_as_caller() {
    track_recent_callers(callers_.fetch_add(1) + 1);
    if (try_acquire(starving_.load())) return;
    waiting_.fetch_add(1);
    bool permitted = spin_until([this] { return try_acquire(starving_.load()); });
    const auto start = Clock::now();
    bool starved = false;
    while (!permitted) {
      if (!starved && Clock::now() - start > starving_time) {
        starving_.fetch_add(1);
        starved = true;
      }
      const uint32_t epoch = epoch_.load();
      permitted = try_acquire(starved ? 0 : starving_.load());
      if (!permitted) epoch_.wait(epoch);
    }
    waiting_.fetch_sub(1);
    if (starved) {
      starving_.fetch_sub(1);
      // A caller refused between our acquiring the permit and this line saw us counted twice: let it try again.
      wake_waiting();
    }
  }

  void release_as_caller() {
    callers_.fetch_sub(1);
    release_as_helper();
  }

  // Helpers only get permits that no caller needs.
  bool try_acquire_as_helper() { return try_acquire(reserved()); }
  void release_as_helper() {
    computing_.fetch_sub(1);
    if (waiting_.load() > 0) wake_waiting();
  }

  // How many helpers could start now; a hint.
  int free_for_helpers() const { return std::max(0, total_ - computing_.load(std::memory_order_relaxed) - reserved()); }

  bool caller_waits() const { return waiting_.load(std::memory_order_relaxed) > 0; }

 private:
  using Clock = std::chrono::steady_clock;

  // A caller that has waited this long goes first; otherwise callers that return every few microseconds would always
  // win.
  static constexpr auto starving_time = std::chrono::milliseconds(1);
  // Callers leave between regions but return soon; their permits are reserved for this long.
  static constexpr auto reservation_time = std::chrono::microseconds(50);

  bool try_acquire(int reserved) {
    int now = computing_.load();
    while (now + reserved < total_) {
      if (computing_.compare_exchange_weak(now, now + 1)) return true;
    }
    return false;
  }

  void wake_waiting() {
    epoch_.fetch_add(1);
    epoch_.notify_all();
  }

  // The recent is how many callers were here together lately. While it holds, helpers leave the permits of the absent
  // alone: with as many stages at work as cores, a helper that jumped into every gap would only make them wait.
  void track_recent_callers(int inside) {
    const int recent = recent_callers_.load(std::memory_order_relaxed);
    if (inside == 1 && recent <= 1) return;
    const int64_t now = Clock::now().time_since_epoch().count();
    if (inside >= recent || now > recent_callers_until_.load(std::memory_order_relaxed)) {
      recent_callers_.store(inside, std::memory_order_relaxed);
      recent_callers_until_.store(now + std::chrono::duration_cast<Clock::duration>(reservation_time).count(),
                                  std::memory_order_relaxed);
    }
  }

  int reserved() const {
    int absent = 0;
    const int recent = recent_callers_.load(std::memory_order_relaxed);
    if (recent > 1 && Clock::now().time_since_epoch().count() < recent_callers_until_.load(std::memory_order_relaxed)) {
      absent = std::max(0, recent - callers_.load(std::memory_order_relaxed));
    }
    return waiting_.load() + absent;
  }

  const int total_;
  std::atomic<int> computing_{0};   // permits in use
  std::atomic<int> callers_{0};     // between acquire and release
  std::atomic<int> waiting_{0};     // of them, without a permit yet
  std::atomic<int> starving_{0};    // of those, the ones that other callers may no longer overtake
  std::atomic<uint32_t> epoch_{0};  // changes when a waiting caller should try again
  std::atomic<int> recent_callers_{0};
  std::atomic<int64_t> recent_callers_until_{0};
};

}  // namespace billfish
