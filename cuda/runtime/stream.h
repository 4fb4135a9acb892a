// Streams: queues of work on a device. Work in one stream runs in order; only events order streams.
//
// Every call except synchronize() returns immediately; a failure on the device is thrown by a later call, usually
// synchronize(), as on a GPU. The emulator runs a stream's work only when somebody waits for it, so that a missing
// event wait shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>

#include "engine/error.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

class Event {
 public:
  // `timed`: for milliseconds().
  explicit Event(Device& device, bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Blocks the host until the last record has completed. An event that was never recorded counts as complete.
  void synchronize() const;
  // Time between the last records of two timed events, which must have completed.
  static float milliseconds(const Event& start, const Event& end);

  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// A stream's captured work, launched as a whole, with the addresses and parameters of the capture. An empty graph must
// not be launched.
class Graph {
 public:
  Graph();
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// Programmatic dependent launch: whether the device's streams overlap grids.
// Throws INVALID_OPTION when BILLFISH_CUDA_PDL is neither on nor off.
inline bool may_overlap_grids(const Device& device) {
  constexpr int first_architecture = 90;  // with griddepcontrol
  const char* text = std::getenv("BILLFISH_CUDA_PDL");
  const std::string value = text == nullptr ? "" : text;
  if (!value.empty() && value != "on" && value != "off") {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_PDL is '" + value + "'; it must be on or off.");
  }
  return value != "off" && device.properties().code_architecture >= first_architecture;
}

class Stream {
 public:
  // Throws INVALID_OPTION when BILLFISH_CUDA_PDL is neither on nor off.
  explicit Stream(Device& device);
  ~Stream();  // queued work still runs
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device& device() const { return device_; }

  // Whether grids of `programmatic` launches may start while the previous grid finishes: if the device's code has the
  // instructions to wait (sm_90) and BILLFISH_CUDA_PDL is not off.
  bool overlaps_grids() const { return overlaps_grids_; }
  // From here on a grid starts only after the previous one has finished.
  void stop_overlapping_grids() { overlaps_grids_ = false; }

  // Host to device: `from` in PinnedMemory must not change until the copy is done; other memory may be reused
  // immediately.
  void copy_to_device(void* to, const void* from, size_t bytes);
  // Device to host: asynchronous into PinnedMemory; into other memory the call waits.
  void copy_to_host(void* to, const void* from, size_t bytes);
  // Within the stream's device.
  void copy(void* to, const void* from, size_t bytes);
  // From a peer's memory to this stream's device; the stream must wait for an event of the peer's stream first. Without
  // peer access CUDA goes through host memory.
  void copy_from(const Device& peer, void* to, const void* from, size_t bytes);
  void fill(void* to, uint8_t value, size_t bytes);

  void record(Event& event);
  // Later work runs after the event's last record, on any device's stream.
  void wait(const Event& event);
  // Blocks the host until all queued work is done; throws what failed.
  void synchronize();

  // Captures, without running, what `queue` calls on this stream. It must not wait on the host or for events, copy
  // pageable memory, or allocate. If one of its calls fails, capture() throws that error.
  template <class Queue>
  Graph capture(const Queue& queue) {
    begin_capture();
    try {
      queue();
    } catch (...) {
      abandon_capture();
      throw;
    }
    return end_capture();
  }
  // The steps of capture(), all on one thread.
  void begin_capture();
  Graph end_capture();
  void abandon_capture() noexcept;
  // A graph may be destroyed while it runs. Not during a capture.
  void launch(const Graph& graph);

  struct State;
  State& state() const { return *state_; }

 private:
  Device& device_;
  bool overlaps_grids_;
  std::unique_ptr<State> state_;
};

// Waits for a stream, or up to an event, where the outcome no longer matters: its resources are about to be freed or
// reused.
template <class StreamOrEvent>
void drain(StreamOrEvent& work) noexcept {
  try {
    work.synchronize();
  } catch (const Error&) {
    // Whoever waited for this work already has the error.
  }
}

// --- Launches (launch.h): a grid, and what it requires of the device.
struct GridSize {
  uint32_t x = 1, y = 1, z = 1;
};

struct LaunchShape {
  GridSize grid = {};         // blocks
  GridSize block = {};        // threads
  uint32_t shared_bytes = 0;  // of shared_memory<T>()
  bool co_resident = false;   // all blocks are resident at once, so they may wait for each other (wait_until)
  // May start while the previous grid finishes, if the stream overlaps grids: call wait_for_previous_grid() before
  // touching memory.
  bool programmatic = false;
};

}  // namespace billfish::BILLFISH_TARGET
