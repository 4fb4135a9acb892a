// Who may compute: at most `total` threads of the pool at a time, callers before helpers.
#pragma once
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

#include "engine/spin.h"

namespace billfish {

class ThreadPermits {
 public:
  explicit ThreadPermits(int total) : total_(total) {}

  // A caller comes with a region: waits for a permit. Helpers make room after the piece they are at.
  void enter() {
    note_crowd(callers_.fetch_add(1) + 1);
    if (try_take(starving_.load())) return;
    waiting_.fetch_add(1);
    bool permitted = spin_until([this] { return try_take(starving_.load()); });
    const auto start = Clock::now();
    bool starved = false;
    while (!permitted) {
      if (!starved && Clock::now() - start > starving_time) {
        starving_.fetch_add(1);
        starved = true;
      }
      const uint32_t epoch = epoch_.load();
      permitted = try_take(starved ? 0 : starving_.load());
      if (!permitted) epoch_.wait(epoch);
    }
    waiting_.fetch_sub(1);
    if (starved) {
      starving_.fetch_sub(1);
      // A caller refused between our taking the permit and this line saw us counted twice: let it look again.
      call_waiting();
    }
  }

  void leave() {
    callers_.fetch_sub(1);
    stop_helping();
  }

  // A helper takes only what no caller wants.
  bool try_help() { return try_take(reserved()); }
  void stop_helping() {
    computing_.fetch_sub(1);
    if (waiting_.load() > 0) call_waiting();
  }

  // How many helpers could start now; a hint.
  int room_for_helpers() const { return std::max(0, total_ - computing_.load(std::memory_order_relaxed) - reserved()); }

  bool caller_waits() const { return waiting_.load(std::memory_order_relaxed) > 0; }

 private:
  using Clock = std::chrono::steady_clock;

  // A caller that waited this long goes first: those that come back every few microseconds would always be faster.
  static constexpr auto starving_time = std::chrono::milliseconds(1);
  // Callers leave between two regions, but are soon back.
  static constexpr auto absence = std::chrono::microseconds(50);

  bool try_take(int reserved) {
    int now = computing_.load();
    while (now + reserved < total_) {
      if (computing_.compare_exchange_weak(now, now + 1)) return true;
    }
    return false;
  }

  void call_waiting() {
    epoch_.fetch_add(1);
    epoch_.notify_all();
  }

  // The crowd is how many callers were here together lately. While it holds, helpers leave the permits of the absent
  // alone: with as many stages at work as cores, a helper that jumped into every gap would only make them wait.
  void note_crowd(int inside) {
    const int crowd = crowd_.load(std::memory_order_relaxed);
    if (inside == 1 && crowd <= 1) return;
    const int64_t now = Clock::now().time_since_epoch().count();
    if (inside >= crowd || now > crowd_until_.load(std::memory_order_relaxed)) {
      crowd_.store(inside, std::memory_order_relaxed);
      crowd_until_.store(now + std::chrono::duration_cast<Clock::duration>(absence).count(), std::memory_order_relaxed);
    }
  }

  int reserved() const {
    int absent = 0;
    const int crowd = crowd_.load(std::memory_order_relaxed);
    if (crowd > 1 && Clock::now().time_since_epoch().count() < crowd_until_.load(std::memory_order_relaxed)) {
      absent = std::max(0, crowd - callers_.load(std::memory_order_relaxed));
    }
    return waiting_.load() + absent;
  }

  const int total_;
  std::atomic<int> computing_{0};   // permits given out
  std::atomic<int> callers_{0};     // between enter and leave
  std::atomic<int> waiting_{0};     // of them, without a permit yet
  std::atomic<int> starving_{0};    // of those, the ones that other callers may not overtake any more
  std::atomic<uint32_t> epoch_{0};  // changes when it is worth a waiting caller's while to look again
  std::atomic<int> crowd_{0};
  std::atomic<int64_t> crowd_until_{0};
};

}  // namespace billfish
