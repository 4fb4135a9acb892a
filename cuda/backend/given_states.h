// Hidden states that a stage leaves on its device for the next stage to fetch: two buffers in turns, handed over by
// events, so that no thread waits.
//
//   giver's stream:   [wait taken] copy into the buffer [record filled]
//   taker's stream:                                      [wait filled] copy out of it [record taken]
//
// The atomic flag says which of the two threads a buffer, its event `filled` and the pointer `taken` belong to; work on
// the devices may still be under way when it changes.
#pragma once
#include <array>
#include <atomic>
#include <utility>

#include "runtime/drain.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class GivenStates {
 public:
  static constexpr size_t slots = 2;
  // Events of the taker's device, one a buffer: an event belongs to the device whose stream records it.
  struct TakerEvents {
    explicit TakerEvents(Device& device) : of_slot{Event(device), Event(device)} {}
    std::array<Event, slots> of_slot;
  };

  GivenStates(Device& device, const std::array<float*, slots>& buffers)
      : slots_{Slot(device, buffers[0]), Slot(device, buffers[1])} {}

  // The giver's thread. Calls fill(buffer), which queues the copy on the stream. False, and nothing done, while the
  // taker has fetched neither of the two buffers.
  template <class Fill>
  bool give(Stream& stream, const Fill& fill) {
    Slot& slot = slots_[given_ % slots];
    if (slot.is_given.load(std::memory_order_acquire)) return false;
    if (slot.taken != nullptr) stream.wait(*slot.taken);
    fill(slot.buffer);
    stream.record(slot.filled);
    slot.is_given.store(true, std::memory_order_release);
    ++given_;
    return true;
  }

  // The taker's thread, once for each give() and in their order. Calls fetch(buffer), which queues the copy on the
  // stream. The events must outlive the giver's next give().
  template <class Fetch>
  void take(Stream& stream, TakerEvents& events, const Fetch& fetch) {
    const size_t index = taken_++ % slots;
    Slot& slot = slots_[index];
    try {
      stream.wait(slot.filled);
      fetch(slot.buffer);
      stream.record(events.of_slot[index]);
      slot.taken = &events.of_slot[index];
    } catch (...) {
      drain(stream);  // it must not read what comes into the buffer next
      slot.taken = nullptr;
      slot.is_given.store(false, std::memory_order_release);
      throw;
    }
    slot.is_given.store(false, std::memory_order_release);
  }

  // The giver's thread, when work has failed: waits for what is being fetched. What fetched the work that failed has
  // failed, too, and would make the next give() fail with it.
  void forget_failures() {
    for (Slot& slot : slots_) {
      if (slot.is_given.load(std::memory_order_acquire) || slot.taken == nullptr) continue;
      drain(*std::exchange(slot.taken, nullptr));
    }
  }

 private:
  struct Slot {
    Slot(Device& device, float* buffer) : buffer(buffer), filled(device) {}
    float* const buffer;
    Event filled;
    const Event* taken = nullptr;
    std::atomic<bool> is_given = false;
  };
  std::array<Slot, slots> slots_;
  size_t given_ = 0;  // the giver's
  size_t taken_ = 0;  // the taker's
};

}  // namespace billfish::BILLFISH_TARGET
