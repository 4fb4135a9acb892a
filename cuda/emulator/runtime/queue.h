// The queues behind emulated streams.
//
// Work stays in its stream's queue until somebody needs it: a host that synchronizes, or a stream that waits for a
// later event. That is as late as a GPU might run it, so that code without an event wait reads stale data. Under the
// reversed schedule work runs as soon as it is queued, under a random one now or later by chance.
//
// Any OS thread may run a queue's work, one at a time; different queues run concurrently.
#pragma once
#include <atomic>
#include <chrono>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "runtime/library_stream.h"
#include "runtime/ordering.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// One record of an event.
struct Moment {
  Stream::State* stream;
  Progress progress;  // copies before it
  bool reached = false;
  std::exception_ptr error;  // of the work before it
  std::chrono::steady_clock::time_point time;
};

using Work = std::function<void()>;

struct QueueEntry {
  Work work;                       // may be empty
  std::shared_ptr<Moment> before;  // what it waits for
  std::shared_ptr<Moment> at;      // what it reaches
};

struct Event::State {
  std::shared_ptr<Moment> last;
};

struct Graph::State {
  std::shared_ptr<const std::vector<Work>> work;
};

struct Stream::State {
  Device& device;
  std::deque<QueueEntry> queue = {};
  bool busy = false;
  std::exception_ptr error = nullptr;
  std::optional<std::vector<Work>> captured = {};  // during a capture
  std::thread::id captured_by = {};
  StreamOrder order = {};
  uint64_t coin = 1;  // for random schedules
  emulator::LibraryStream for_libraries = {};
};

// What the host has asked devices for, of all streams together: for tests.
struct LaunchCounts {
  std::atomic<uint64_t> kernels = 0;  // one by one; those of graphs are not among them
  std::atomic<uint64_t> recorded = 0;
  std::atomic<uint64_t> graphs = 0;
};
LaunchCounts& launch_counts();

// Throws INTERNAL while the calling thread captures: CUDA refuses such a call then, or the capture ends in an error.
void refuse_while_capturing(const char* call);
void note_capture(int change);  // of the calling thread: 1 begins, -1 ends

// Appends to the queue (or to the current capture), and runs it now if the schedule says so.
void enqueue_work(Stream& stream, Work work);
void enqueue_entry(Stream& stream, QueueEntry entry);
// Work that waits for other devices: whatever the schedule, it does not run within the call that queues it.
void enqueue_waiting_work(Stream& stream, Work work);

// Runs the queued work. Throws what failed, once.
void finish(Stream::State& stream);
// Until the moment is reached.
void reach(const Moment& moment);
// All streams of the device; what fails is thrown when its stream is synchronized.
void finish_all(const Device& device);

void note_stream(Stream::State& stream);
void forget_stream(Stream::State& stream);

void note_pinned(const void* data, size_t bytes);
void forget_pinned(const void* data);
bool is_pinned(const void* data, size_t bytes);

}  // namespace billfish::BILLFISH_TARGET
