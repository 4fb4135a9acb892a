// The pool: permits bound how many threads compute, boards hold the open regions, helpers move between the boards.
//
//   caller: take a permit -> fill and open a board -> wake helpers -> take pieces -> close the board, wait for its
//   helpers helper: find an open board -> take a permit -> join the board -> take pieces -> leave -> give the permit
//   back
//
// A decode step runs some 150 regions of 5 to 200 microseconds, so nothing on this way takes a lock, and helpers spin
// for a moment after a region before they sleep.
#include "engine/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include <pthread.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "engine/available_cores.h"
#include "engine/error.h"

namespace billfish {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto spin_time = std::chrono::microseconds(40);
constexpr auto starving_time = std::chrono::milliseconds(1);
constexpr int pieces_per_thread = 4;
constexpr int most_threads = 1024;

// Set while a thread runs pieces, of whichever pool: what it calls from there runs serially.
thread_local bool inside_region = false;

inline void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `done()` or for spin_time; says which.
template <class Done>
bool spin_until(Done done) {
  if (done()) return true;
  const auto end = Clock::now() + spin_time;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (Clock::now() < end);
  return done();
}

int threads_of_this_process() {
  const char* text = std::getenv("BILLFISH_THREADS");
  if (text == nullptr || *text == '\0') return std::min(available_cores(), most_threads);
  char* end = nullptr;
  errno = 0;
  const long threads = std::strtol(text, &end, 10);
  if (errno != 0 || *end != '\0' || threads < 1 || threads > most_threads) {
    throw Error("INVALID_OPTION", std::string("BILLFISH_THREADS is '") + text +
                                      "', but must be a whole number from 1 to " + std::to_string(most_threads) +
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

// Where a caller shows its region to the helpers. Boards live as long as the pool, so that a helper may look at any of
// them at any time; it reads the region only after it has joined.
//
//   state:  bit 31 = open   bit 30 = taken by a caller   bits 0..29 = helpers inside
struct alignas(64) Board {
  static constexpr uint32_t open = 1u << 31;
  static constexpr uint32_t taken = 1u << 30;
  static constexpr uint32_t helpers = taken - 1;

  std::atomic<uint32_t> state{0};
  void (*function)(void* context, int64_t begin, int64_t end) = nullptr;
  void* context = nullptr;
  int64_t count = 0;
  int64_t piece = 0;
  alignas(64) std::atomic<int64_t> next{0};

  void open_with(void (*region)(void*, int64_t, int64_t), void* region_context, int64_t region_count,
                 int64_t region_piece) {
    function = region;
    context = region_context;
    count = region_count;
    piece = region_piece;
    next.store(0, std::memory_order_relaxed);
    state.store(open | taken, std::memory_order_release);
  }

  // Runs the next piece; false when all are taken.
  bool run_piece() {
    const int64_t begin = next.fetch_add(piece, std::memory_order_relaxed);
    if (begin >= count) return false;
    function(context, begin, std::min(begin + piece, count));
    return true;
  }

  // Lets no more helpers in, waits for those inside, and gives the board back.
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

  void leave() {
    // The caller may be gone and the board reused as soon as the count drops: a wake-up too many is harmless then.
    const uint32_t before = state.fetch_sub(1, std::memory_order_acq_rel);
    if (!(before & open) && (before & helpers) == 1) state.notify_all();
  }
};

}  // namespace

struct ThreadPool::State {
  explicit State(int thread_count) : threads(thread_count), boards(static_cast<size_t>(thread_count)) {}

  const int threads;
  std::vector<Board> boards;  // as many as permits: a caller that holds one always finds a free board
  std::vector<std::thread> helpers;

  alignas(64) std::atomic<int> computing{0};  // permits given out
  std::atomic<int> waiting{0};                // callers without a permit; helpers make room for them
  std::atomic<int> starving{0};               // those of them that other callers may no longer overtake
  std::atomic<uint32_t> permit_epoch{0};      // changes when a permit comes back while callers wait
  std::atomic<int> open_boards{0};
  alignas(64) std::atomic<uint32_t> work_epoch{0};  // changes when there is something new for helpers
  std::atomic<int> sleepers{0};
  std::atomic<bool> stopping{false};

  // One more thread may compute if that leaves `reserved` permits.
  bool try_permit(int reserved) {
    int now = computing.load();
    while (now + reserved < threads) {
      if (computing.compare_exchange_weak(now, now + 1)) return true;
    }
    return false;
  }

  void caller_permit() {
    if (try_permit(starving.load())) return;
    waiting.fetch_add(1);
    // Helpers leave after the piece they are at, so a short spin usually does.
    bool permitted = spin_until([this] { return try_permit(starving.load(std::memory_order_relaxed)); });
    const auto start = Clock::now();
    bool starved = false;
    while (!permitted) {
      if (!starved && Clock::now() - start > starving_time) {
        starving.fetch_add(1);
        starved = true;
      }
      const uint32_t epoch = permit_epoch.load();
      permitted = try_permit(starved ? 0 : starving.load());
      if (!permitted) permit_epoch.wait(epoch);
    }
    waiting.fetch_sub(1);
    if (starved) {
      // A caller refused between our taking the permit and this line saw us counted twice: let it look again.
      starving.fetch_sub(1);
      permit_epoch.fetch_add(1);
      permit_epoch.notify_all();
    }
  }

  void return_permit() {
    computing.fetch_sub(1);
    if (waiting.load() > 0) {
      permit_epoch.fetch_add(1);
      permit_epoch.notify_all();
    }
  }

  void wake_helpers(int wanted) {
    work_epoch.fetch_add(1);
    const int asleep = sleepers.load();
    if (asleep == 0 || wanted <= 0) return;
    if (wanted >= asleep) {
      work_epoch.notify_all();
    } else {
      for (int i = 0; i < wanted; ++i) work_epoch.notify_one();
    }
  }

  Board& take_board() {
    for (;;) {
      for (Board& board : boards) {
        uint32_t idle = 0;
        if (board.state.load(std::memory_order_relaxed) == 0 &&
            board.state.compare_exchange_strong(idle, Board::taken, std::memory_order_acquire)) {
          return board;
        }
      }
    }
  }

  // A helper goes when the pieces run out, or when a caller waits for its permit.
  void help_with(Board& board) {
    inside_region = true;
    while (board.run_piece() && waiting.load(std::memory_order_relaxed) == 0) continue;
    inside_region = false;
  }

  // The caller stays to the last piece. Where other callers held the permits when it began, it wakes a helper once they
  // have been free for two pieces in a row: between two regions of another caller they are free for a moment only.
  void work_on(Board& board) {
    inside_region = true;
    int seen_free = 0;
    while (board.run_piece()) {
      const bool could_help =
          sleepers.load(std::memory_order_relaxed) > 0 &&
          computing.load(std::memory_order_relaxed) + waiting.load(std::memory_order_relaxed) < threads;
      seen_free = could_help ? seen_free + 1 : 0;
      if (seen_free >= 2) {
        wake_helpers(1);
        seen_free = 0;
      }
    }
    inside_region = false;
  }

  // Joins the open board with the fewest helpers, if there is one and a permit is left.
  void help() {
    if (open_boards.load(std::memory_order_relaxed) == 0) return;
    if (!try_permit(waiting.load())) return;
    Board* best = nullptr;
    uint32_t fewest = UINT32_MAX;
    for (Board& board : boards) {
      const uint32_t seen = board.state.load(std::memory_order_relaxed);
      if (!(seen & Board::open)) continue;
      if ((seen & Board::helpers) < fewest) {
        fewest = seen & Board::helpers;
        best = &board;
      }
    }
    if (best != nullptr && best->try_join()) {
      help_with(*best);
      best->leave();
    }
    return_permit();
  }

  void helper_loop() {
    name_this_thread();
    while (!stopping.load()) {
      const uint32_t epoch = work_epoch.load();
      help();
      // The next region of this step follows within microseconds. While callers hold every permit, spinning would only
      // take a core from them.
      bool changed = false;
      spin_until([&] {
        changed = work_epoch.load(std::memory_order_relaxed) != epoch;
        return changed || computing.load(std::memory_order_relaxed) >= threads;
      });
      if (changed) continue;
      sleepers.fetch_add(1);
      work_epoch.wait(epoch);
      sleepers.fetch_sub(1);
    }
  }

  void stop() {
    stopping.store(true);
    work_epoch.fetch_add(1);
    work_epoch.notify_all();
    for (std::thread& helper : helpers) helper.join();
  }
};

ThreadPool::ThreadPool(int threads) {
  if (threads < 1 || threads > most_threads) {
    throw Error("INVALID_OPTION", "threads is " + std::to_string(threads) + ", but a pool has 1 to " +
                                      std::to_string(most_threads) + " threads");
  }
  state_ = std::make_unique<State>(threads);
  // Signals are for the threads that the embedding program knows: helpers inherit a mask that blocks them all.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::string failure;
  try {
    for (int i = 1; i < threads; ++i) state_->helpers.emplace_back([state = state_.get()] { state->helper_loop(); });
  } catch (const std::system_error& error) {
    failure = error.what();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!failure.empty()) {
    const std::string started = std::to_string(state_->helpers.size());
    state_->stop();
    throw Error("OUT_OF_MEMORY", "started " + started + " of " + std::to_string(threads - 1) +
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
  const int64_t wanted_pieces = static_cast<int64_t>(state.threads) * pieces_per_thread;
  const int64_t piece = ((grains - 1) / wanted_pieces + 1) * grain;

  if (inside_region) {
    function(context, 0, count);
    return;
  }
  if (piece >= count) {
    inside_region = true;
    function(context, 0, count);
    inside_region = false;
    return;
  }

  state.caller_permit();
  if (state.threads == 1) {
    inside_region = true;
    function(context, 0, count);
    inside_region = false;
  } else {
    Board& board = state.take_board();
    board.open_with(function, context, count, piece);
    state.open_boards.fetch_add(1);
    const int64_t pieces = (count - 1) / piece + 1;
    state.wake_helpers(static_cast<int>(std::min<int64_t>(pieces - 1, state.threads - state.computing.load())));
    state.work_on(board);
    state.open_boards.fetch_sub(1);
    board.close();
  }
  state.return_permit();
}

}  // namespace billfish
