// Checks that copies of different streams that touch the same bytes are ordered, by events or by a host wait.
//
// A GPU may run unordered copies in any order, and usually picks the right one. Here every copy is checked when it is
// queued, so a missing wait is found in every schedule, whatever the bytes are. Kernels are not checked: what they
// touch is known only once they run.
#pragma once
#include <cstddef>
#include <cstdint>
#include <map>

namespace billfish::BILLFISH_TARGET {

// How many copies of each stream, by its number, are known to come before.
using Progress = std::map<uint64_t, uint64_t>;

// What a stream knows about the others, and its own copies so far.
struct StreamOrder {
  StreamOrder();
  const uint64_t number;
  uint64_t copies = 0;
  Progress known;
};

struct Touched {
  const void* data = nullptr;  // of a device; null: nothing
  size_t bytes = 0;
};

// A copy is queued. Throws INTERNAL when it touches what a copy of another stream touches, one of them writing, and
// nothing orders the two.
void order_copy(StreamOrder& stream, Touched reads, Touched writes);

// An event is recorded; a stream, or the host, waits for it.
Progress progress_of(const StreamOrder& stream);
void learn(StreamOrder& stream, const Progress& progress);
void host_learns(const Progress& progress);

// The memory is released.
void forget_copies(const void* data, size_t bytes);

}  // namespace billfish::BILLFISH_TARGET
