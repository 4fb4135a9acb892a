// Peer-to-peer hand-off of hidden states: a stage copies them into one of two buffers on its device, and the next
// stage's device fetches them. Events order the two streams, so neither thread waits.
//
//   sender's stream:    [wait drained] copy into the buffer [record filled]
//   receiver's stream:                                      [wait filled] copy out of it [record drained]
//
// `is_full` says which of the two threads owns a buffer, its event `filled` and the pointer `drained`; device work may
// still be in flight when it changes.
#pragma once
#include <array>
#include <atomic>
#include <utility>

#include "engine/backend.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class RankExchange;

class PeerChannel {
 public:
  static constexpr size_t slots = 2;
  // Events of the receiver's device, one per buffer: an event belongs to the device whose stream records it.
  struct ReceiverEvents {
    explicit ReceiverEvents(Device& device) : of_slot{Event(device), Event(device)} {}
    std::array<Event, slots> of_slot;
  };

  PeerChannel(Device& device, const std::array<float*, slots>& buffers)
      : slots_{Slot(device, buffers[0]), Slot(device, buffers[1])} {}

  // On the sender's thread. Calls fill(buffer), which queues the copy on the stream. Returns false, and does nothing,
  // while the receiver has fetched neither of the two buffers.
  template <class Fill>
  bool send(Stream& stream, const Fill& fill) {
    Slot& slot = slots_[sent_ % slots];
    if (slot.is_full.load(std::memory_order_acquire)) return false;
    if (slot.drained != nullptr) stream.wait(*slot.drained);
    fill(slot.buffer);
    stream.record(slot.filled);
    slot.is_full.store(true, std::memory_order_release);
    ++sent_;
    return true;
  }

  // On the receiver's thread, once for each send(), in order. Calls fetch(buffer), which queues the copy on the stream.
  // The events must outlive the sender's next send().
  template <class Fetch>
  void receive(Stream& stream, ReceiverEvents& events, const Fetch& fetch) {
    const size_t index = received_++ % slots;
    Slot& slot = slots_[index];
    try {
      stream.wait(slot.filled);
      fetch(slot.buffer);
      stream.record(events.of_slot[index]);
      slot.drained = &events.of_slot[index];
    } catch (...) {
      drain(stream);  // it must not read the buffer's next contents
      slot.drained = nullptr;
      slot.is_full.store(false, std::memory_order_release);
      throw;
    }
    slot.is_full.store(false, std::memory_order_release);
  }

  // On the sender's thread, after a failure: waits for pending fetches. A fetch of failed work has failed too, and
  // would make the next send() fail with it.
  void clear_failures() {
    for (Slot& slot : slots_) {
      if (slot.is_full.load(std::memory_order_acquire) || slot.drained == nullptr) continue;
      drain(*std::exchange(slot.drained, nullptr));
    }
  }

 private:
  struct Slot {
    Slot(Device& device, float* buffer) : buffer(buffer), filled(device) {}
    float* const buffer;
    Event filled;
    const Event* drained = nullptr;
    std::atomic<bool> is_full = false;
  };
  std::array<Slot, slots> slots_;
  size_t sent_ = 0;      // the sender's
  size_t received_ = 0;  // the receiver's
};

// What backends of this target know of each other, independent of the element type.
class Peer : public Backend {
 public:
  virtual const Device& target_device() const = 0;
  virtual Stream& stream() = 0;
  virtual PeerChannel& peer_channel() = 0;  // fp32, contiguous
  virtual const RankExchange& exchange() const = 0;
};

}  // namespace billfish::BILLFISH_TARGET
