// Streams: queues of work on a device. What is in one stream runs in order; streams are ordered by events alone.
//
// Every call but synchronize() returns at once, and what fails on the device is thrown by a later call, usually
// synchronize(), as on a GPU. The emulator runs a stream's work only when somebody waits for it, so that a missing
// event wait shows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>

#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

class Event {
 public:
  // `timed`: milliseconds() may be asked.
  explicit Event(Device& device, bool timed = false);
  ~Event();
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  // Waits on the host for the last record. An event that was never recorded counts as past.
  void synchronize() const;
  // Between the last records of two timed events, which must have come to pass.
  static float milliseconds(const Event& start, const Event& end);

  struct State;
  State& state() const { return *state_; }

 private:
  std::unique_ptr<State> state_;
};

// A stream's recorded work, to be launched as a whole. Places and parameters are those of the recording. Without one,
// nothing may be launched.
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

class Stream {
 public:
  // Throws INVALID_OPTION when BILLFISH_CUDA_PDL is neither on nor off.
  explicit Stream(Device& device);
  ~Stream();  // what is queued still runs
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device& device() const { return device_; }

  // Whether grids of `programmatic` launches begin while the grid before them ends: where the code that runs on the
  // device has the instructions by which they wait (sm_90), and BILLFISH_CUDA_PDL is not off.
  bool overlaps_grids() const { return overlaps_grids_; }
  // From here on a grid begins when the one before it has ended.
  void stop_overlapping_grids() { overlaps_grids_ = false; }

  // Host to device: `from` in PinnedMemory must stay as it is until the copy is done; other memory is free at once.
  void copy_to_device(void* to, const void* from, size_t bytes);
  // Device to host: into PinnedMemory beside the host; into other memory the call waits until it is done.
  void copy_to_host(void* to, const void* from, size_t bytes);
  // Within the stream's device.
  void copy(void* to, const void* from, size_t bytes);
  // From a peer's memory to this stream's device; the stream must wait for an event of the peer's stream first. Between
  // devices that do not reach each other CUDA goes through host memory.
  void copy_from(const Device& peer, void* to, const void* from, size_t bytes);
  void fill(void* to, uint8_t value, size_t bytes);

  void record(Event& event);
  // What is queued after this runs after the event's last record, of whichever device's stream.
  void wait(const Event& event);
  // Waits on the host for all that was queued; throws what failed.
  void synchronize();

  // What `queue` calls on this stream, recorded and not run. Neither waits on the host or for events nor copies of
  // unpinned memory nor allocations may be among it. Where one of its calls fails, what that one threw is told.
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
  // A graph may go while it runs, and is not launched while another is captured.
  void launch(const Graph& graph);

  struct State;
  State& state() const { return *state_; }

 private:
  Device& device_;
  bool overlaps_grids_;
  std::unique_ptr<State> state_;
};

}  // namespace billfish::BILLFISH_TARGET
