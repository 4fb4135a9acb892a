#include "runtime/queue.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

#include "engine/error.h"
#include "machine/schedule.h"

namespace billfish::BILLFISH_TARGET {

// Never destroyed: streams and memory may outlive this file's statics.
struct Registry {
  std::mutex mutex;
  std::condition_variable changed;
  std::set<Stream::State*> streams;
  std::map<uintptr_t, size_t> pinned;
};
static Registry& registry() {
  static auto& instance = *new Registry;
  return instance;
}

LaunchCounts& launch_counts() {
  static auto& counts = *new LaunchCounts;
  return counts;
}

static thread_local int captures = 0;
void note_capture(int change) { captures += change; }
void refuse_while_capturing(const char* call) {
  if (captures > 0) throw Error("INTERNAL", std::string(call) + " while this thread records a graph.");
}

static void reach(const Moment& moment, std::unique_lock<std::mutex>& lock);

// Runs the first entry. A failure discards the work behind it in the queue.
static void run_first(Stream::State& stream, std::unique_lock<std::mutex>& lock) {
  QueueEntry entry = std::move(stream.queue.front());
  stream.queue.pop_front();
  stream.busy = true;
  std::exception_ptr error = stream.error;
  if (!error && entry.before != nullptr) {
    reach(*entry.before, lock);
    error = entry.before->error;
  }
  if (!error && entry.work) {
    lock.unlock();
    try {
      entry.work();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
  }
  stream.error = error;
  stream.busy = false;
  if (entry.at != nullptr) {
    entry.at->reached = true;
    entry.at->error = error;
    entry.at->time = std::chrono::steady_clock::now();
  }
  registry().changed.notify_all();
}

template <class Done>
static void run_until(Stream::State& stream, std::unique_lock<std::mutex>& lock, const Done& done) {
  while (!done()) {
    if (stream.busy) {
      registry().changed.wait(lock);
    } else if (!stream.queue.empty()) {
      run_first(stream, lock);
    } else {
      return;
    }
  }
}

static void reach(const Moment& moment, std::unique_lock<std::mutex>& lock) {
  if (!moment.reached) run_until(*moment.stream, lock, [&] { return moment.reached; });
}

static bool is_idle(const Stream::State& stream) { return stream.queue.empty() && !stream.busy; }

void reach(const Moment& moment) {
  std::unique_lock lock(registry().mutex);
  reach(moment, lock);
  host_learns(moment.progress);
  if (moment.error) std::rethrow_exception(moment.error);
}

void finish(Stream::State& stream) {
  std::unique_lock lock(registry().mutex);
  const Progress progress = progress_of(stream.order);
  run_until(stream, lock, [&] { return is_idle(stream); });
  host_learns(progress);
  if (auto error = std::exchange(stream.error, nullptr)) std::rethrow_exception(error);
}

void finish_all(const Device& device) {
  std::unique_lock lock(registry().mutex);
  for (auto stream = registry().streams.begin(); stream != registry().streams.end();) {
    if (&(*stream)->device == &device) host_learns(progress_of((*stream)->order));
    if (&(*stream)->device != &device || is_idle(**stream)) {
      ++stream;
      continue;
    }
    Stream::State& busy = **stream;
    run_until(busy, lock, [&] { return is_idle(busy); });
    stream = registry().streams.begin();  // the set may have changed meanwhile
  }
}

// --- Filling queues. -----------------------------------------------------------------------------------------------

static bool runs_now(Stream::State& stream) {
  const emulator::Schedule schedule = emulator::Schedule::current();
  if (schedule.order != emulator::Schedule::Order::random) return schedule.order == emulator::Schedule::Order::reversed;
  stream.coin = (stream.coin + schedule.seed) * 6364136223846793005u + 1442695040888963407u;
  return stream.coin >> 63 != 0;
}

void enqueue_entry(Stream& stream, QueueEntry entry) {
  Stream::State& state = stream.state();
  std::unique_lock lock(registry().mutex);
  state.queue.push_back(std::move(entry));
  if (runs_now(state)) run_until(state, lock, [&] { return is_idle(state); });
}

void enqueue_waiting_work(Stream& stream, Work work) {
  const std::lock_guard lock(registry().mutex);
  stream.state().queue.push_back({std::move(work), nullptr, nullptr});
}

void enqueue_work(Stream& stream, Work work) {
  if (auto& captured = stream.state().captured) {
    captured->push_back(std::move(work));
    return;
  }
  enqueue_entry(stream, {std::move(work), nullptr, nullptr});
}

void note_stream(Stream::State& stream) {
  const std::lock_guard lock(registry().mutex);
  registry().streams.insert(&stream);
}

void forget_stream(Stream::State& stream) {
  std::unique_lock lock(registry().mutex);
  run_until(stream, lock, [&] { return is_idle(stream); });
  registry().streams.erase(&stream);
}

// --- Page-locked memory. -------------------------------------------------------------------------------------------

void note_pinned(const void* data, size_t bytes) {
  const std::lock_guard lock(registry().mutex);
  registry().pinned[reinterpret_cast<uintptr_t>(data)] = bytes;
}

void forget_pinned(const void* data) {
  const std::lock_guard lock(registry().mutex);
  registry().pinned.erase(reinterpret_cast<uintptr_t>(data));
}

bool is_pinned(const void* data, size_t bytes) {
  const std::lock_guard lock(registry().mutex);
  const auto address = reinterpret_cast<uintptr_t>(data);
  auto after = registry().pinned.upper_bound(address);
  if (after == registry().pinned.begin()) return false;
  const auto& [begin, size] = *std::prev(after);
  return address + bytes <= begin + size;
}

}  // namespace billfish::BILLFISH_TARGET
