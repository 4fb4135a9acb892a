// The pool. A semaphore bounds how many threads compute, task slots hold the open regions, and helpers move between
// slots.
//
//   caller:  acquire the semaphore -> fill and open a slot -> wake helpers -> take pieces -> close the slot, wait for
//            its helpers -> release the semaphore
//   helper:  find an open slot -> acquire the semaphore -> join the slot -> take pieces -> leave -> release
//
// A decode step runs about 150 regions of 5 to 200 microseconds, so nothing on this path takes a lock, and helpers spin
// briefly after a region before they sleep.
#include "engine/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>

#include "engine/available_cores.h"
#include "engine/compute_semaphore.h"
#include "engine/error.h"
#include "engine/spin.h"
#include "engine/stage_thread.h"

namespace billfish {
namespace {

// A piece is half of a thread's even share of what is left: threads take few pieces and still end together. The
// smallest is a 32nd of its share of the whole region.
constexpr int pieces_of_rest_per_thread = 2;
constexpr int smallest_pieces_per_thread = 32;
constexpr int max_threads = 1024;

// Set while a thread runs pieces of any pool: nested calls run serially.
thread_local bool inside_region = false;

int threads_of_this_process() {
  const char* text = std::getenv("BILLFISH_THREADS");
  if (text == nullptr || *text == '\0') return std::min(available_cores(), max_threads);
  char* end = nullptr;
  errno = 0;
  const long threads = std::strtol(text, &end, 10);
  if (errno != 0 || *end != '\0' || threads < 1 || threads > max_threads) {
    throw Error("INVALID_OPTION", std::string("BILLFISH_THREADS is '") + text +
                                      "', but must be a whole number from 1 to " + std::to_string(max_threads) +
                                      ", or unset for one thread a core");
  }
  return static_cast<int>(threads);
}

void name_this_thread() {
#if defined(__APPLE__)
  pthread_setname_np("billfish-pool");
#elif defined(__linux__)
  pthread_setname_np(pthread_self(), "billfish-pool");
#endif
}

// A caller's region, as helpers see it. Slots live as long as the pool, so that a helper may inspect any of them at any
// time; it reads the region only after joining.
//
//   state:  bit 31 = open   bit 30 = taken by a caller   bits 0..29 = helpers inside
struct alignas(64) TaskSlot {
  static constexpr uint32_t open = 1u << 31;
  static constexpr uint32_t taken = 1u << 30;
  static constexpr uint32_t helpers = taken - 1;

  std::atomic<uint32_t> state{0};
  void (*function)(void* context, int64_t begin, int64_t end) = nullptr;
  void* context = nullptr;
  int64_t count = 0, grain = 1;
  int64_t smallest_piece = 1;
  int64_t pieces_of_rest = 1;
  alignas(64) std::atomic<int64_t> next{0};

  // Once the caller has filled in the region.
  void open_for_helpers() {
    next.store(0, std::memory_order_relaxed);
    state.store(open | taken, std::memory_order_release);
  }

  // Runs the next piece; false when all are taken.
  bool run_piece() {
    int64_t begin = next.load(std::memory_order_relaxed), end = 0;
    do {
      if (begin >= count) return false;
      const int64_t share = (count - begin) / pieces_of_rest / grain * grain;
      end = std::min(begin + std::max(share, smallest_piece), count);
    } while (!next.compare_exchange_weak(begin, end, std::memory_order_relaxed));
    function(context, begin, end);
    return true;
  }

  // Closes the slot to helpers, waits for those inside, and frees it.
  void close() {
    uint32_t seen = state.fetch_and(~open, std::memory_order_acq_rel) & ~open;
    if (seen & helpers) spin_until([&] { return ((seen = state.load(std::memory_order_acquire)) & helpers) == 0; });
    while (seen & helpers) {
      state.wait(seen, std::memory_order_acquire);
      seen = state.load(std::memory_order_acquire);
    }
    state.store(0, std::memory_order_release);
  }

  bool try_join() {
    uint32_t seen = state.load(std::memory_order_relaxed);
    while (seen & open) {
      if (state.compare_exchange_weak(seen, seen + 1, std::memory_order_acquire)) return true;
    }
    return false;
  }

  bool has_pieces() const { return next.load(std::memory_order_relaxed) < count; }

  void leave() {
    // The caller may be gone and the slot reused as soon as the count drops; a spurious wake-up is harmless.
    const uint32_t before = state.fetch_sub(1, std::memory_order_acq_rel);
    if (!(before & open) && (before & helpers) == 1) state.notify_all();
  }
};

struct alignas(64) Helper {
  std::atomic<uint32_t> asleep{0};  // set only by the helper; whoever clears it wakes it
  std::thread thread;
};

}  // namespace

struct ThreadPool::State {
  explicit State(int thread_count)
      : threads(thread_count),
        semaphore(thread_count),
        slots(static_cast<size_t>(thread_count)),
        helpers(static_cast<size_t>(thread_count - 1)) {}

  const int threads;
  ComputeSemaphore semaphore;
  std::vector<TaskSlot> slots;  // as many as permits, so a caller that holds one always finds a free slot
  std::vector<Helper> helpers;

  std::atomic<int> open_slots{0};
  std::atomic<bool> stopping{false};
  alignas(64) std::atomic<uint32_t> work_epoch{0};  // changes when there is new work for helpers
  std::atomic<int> sleepers{0};                     // helpers whose `asleep` is set
  std::atomic<int> still_to_wake{0};

  void wake(int wanted) {
    if (wanted <= 0 || sleepers.load() == 0) return;
    for (Helper& helper : helpers) {
      if (helper.asleep.load(std::memory_order_relaxed) == 0 || helper.asleep.exchange(0) == 0) continue;
      sleepers.fetch_sub(1);
      helper.asleep.notify_one();
      if (--wanted == 0) return;
    }
  }

  // Waking a thread costs the waker a microsecond, so the caller wakes a few and each of those wakes two more.
  void call_helpers(int wanted) {
    constexpr int by_caller = 3;
    work_epoch.fetch_add(1);
    still_to_wake.store(wanted - by_caller, std::memory_order_relaxed);
    wake(std::min(wanted, by_caller));
  }
  void wake_two_more() {
    constexpr int by_helper = 2;
    wake(std::min(still_to_wake.fetch_sub(by_helper, std::memory_order_relaxed), by_helper));
  }

  TaskSlot& acquire_slot() {
    for (;;) {
      for (TaskSlot& slot : slots) {
        uint32_t idle = 0;
        if (slot.state.load(std::memory_order_relaxed) == 0 &&
            slot.state.compare_exchange_strong(idle, TaskSlot::taken, std::memory_order_acquire)) {
          return slot;
        }
      }
    }
  }

  // The caller stays until the last piece. If other callers held the permits when it began, it wakes helpers once
  // permits are free.
  void work_on(TaskSlot& slot) {
    inside_region = true;
    while (slot.run_piece()) {
      if (sleepers.load(std::memory_order_relaxed) > 0 && slot.has_pieces() && semaphore.free_for_helpers() > 0)
        wake(1);
    }
    inside_region = false;
  }

  // Joins the open slot with the fewest helpers, if there is one and a permit is free. Leaves when the pieces run out,
  // or when a caller waits for the permit.
  void help() {
    if (open_slots.load(std::memory_order_relaxed) == 0 || !semaphore.try_acquire_as_helper()) return;
    TaskSlot* best = nullptr;
    uint32_t fewest = UINT32_MAX;
    for (TaskSlot& slot : slots) {
      const uint32_t seen = slot.state.load(std::memory_order_relaxed);
      if (!(seen & TaskSlot::open) || (seen & TaskSlot::helpers) >= fewest) continue;
      fewest = seen & TaskSlot::helpers;
      best = &slot;
    }
    if (best != nullptr && best->try_join()) {
      inside_region = true;
      while (best->run_piece() && !semaphore.caller_waits()) continue;
      inside_region = false;
      best->leave();
    }
    semaphore.release_as_helper();
  }

  void sleep(Helper& self, uint32_t epoch) {
    self.asleep.store(1);
    sleepers.fetch_add(1);
    if (work_epoch.load() != epoch) {
      // Work arrived while we were going to sleep. If somebody is already waking us, they have adjusted the count.
      if (self.asleep.exchange(0) == 1) sleepers.fetch_sub(1);
      return;
    }
    while (self.asleep.load() == 1) self.asleep.wait(1);
    wake_two_more();
  }

  void helper_loop(Helper& self) {
    name_this_thread();
    for (;;) {
      const uint32_t epoch = work_epoch.load();  // before checking for work
      if (stopping.load()) return;
      help();
      // The next region of this step follows within microseconds. While callers need every permit, spinning would only
      // take a core from them.
      bool changed = false;
      spin_until([&] {
        changed = work_epoch.load(std::memory_order_relaxed) != epoch;
        return changed || semaphore.free_for_helpers() == 0;
      });
      if (!changed) sleep(self, epoch);
    }
  }

  void stop() {
    stopping.store(true);
    work_epoch.fetch_add(1);
    wake(threads);
    for (Helper& helper : helpers) {
      if (helper.thread.joinable()) helper.thread.join();
    }
  }
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > max_threads) {
    throw Error("INVALID_OPTION", "threads is " + std::to_string(threads) + ", but a pool has 1 to " +
                                      std::to_string(max_threads) + " threads");
  }
  state_ = std::make_unique<State>(threads);
  // Helpers inherit this signal mask.
  const sigset_t blocked = host_signals();
  sigset_t before;
  pthread_sigmask(SIG_SETMASK, &blocked, &before);
  std::string failure;
  int started = 0;
  try {
    for (Helper& helper : state_->helpers) {
      helper.thread = std::thread([state = state_.get(), &helper] { state->helper_loop(helper); });
      ++started;
    }
  } catch (const std::system_error& error) {
    failure = error.what();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!failure.empty()) {
    state_->stop();
    throw Error("OUT_OF_MEMORY", "started " + std::to_string(started) + " of " + std::to_string(threads - 1) +
                                     " pool threads, then: " + failure + "; ask for fewer with BILLFISH_THREADS");
  }
}

ThreadPool::~ThreadPool() { state_->stop(); }

ThreadPool& ThreadPool::shared() {
  static ThreadPool& pool = *new ThreadPool(threads_of_this_process());
  return pool;
}

int ThreadPool::threads() const noexcept { return state_->threads; }

void ThreadPool::run(int64_t count, int64_t grain, Function function, void* context) {
  if (count <= 0) return;
  State& state = *state_;
  grain = std::max<int64_t>(grain, 1);
  const int64_t grains = (count - 1) / grain + 1;
  const int64_t most_pieces = static_cast<int64_t>(state.threads) * smallest_pieces_per_thread;
  const int64_t smallest_piece = ((grains - 1) / most_pieces + 1) * grain;

  if (inside_region) {
    function(context, 0, count);
    return;
  }
  if (smallest_piece >= count) {
    inside_region = true;
    function(context, 0, count);
    inside_region = false;
    return;
  }

  state.semaphore.acquire_as_caller();
  if (state.threads == 1) {
    inside_region = true;
    function(context, 0, count);
    inside_region = false;
  } else {
    TaskSlot& slot = state.acquire_slot();
    slot.function = function;
    slot.context = context;
    slot.count = count;
    slot.grain = grain;
    slot.smallest_piece = smallest_piece;
    slot.pieces_of_rest = static_cast<int64_t>(state.threads) * pieces_of_rest_per_thread;
    slot.open_for_helpers();
    state.open_slots.fetch_add(1);
    const int64_t other_pieces = (count - 1) / smallest_piece;
    state.call_helpers(static_cast<int>(std::min<int64_t>(other_pieces, state.semaphore.free_for_helpers())));
    state.work_on(slot);
    state.open_slots.fetch_sub(1);
    slot.close();
  }
  state.semaphore.release_as_caller();
}

}  // namespace billfish
