#include "runtime/ordering.h"

#include <algorithm>
#include <iterator>
#include <mutex>
#include <string>

#include "engine/error.h"
#include "machine/device.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// The last copy that touched a range, by the address where it begins.
struct Access {
  uintptr_t end;
  uint64_t stream, copy;
};
using Accesses = std::map<uintptr_t, Access>;

// Never destroyed, as the streams' registry.
struct Copies {
  std::mutex mutex;
  Accesses reads, writes;
  Progress host;  // what a thread of the host has waited for; all threads count as one
  uint64_t streams = 0;
};
Copies& all_copies() {
  static auto& instance = *new Copies;
  return instance;
}

struct Range {
  explicit Range(Touched touched)
      : begin(reinterpret_cast<uintptr_t>(touched.data)), end(begin + (touched.data == nullptr ? 0 : touched.bytes)) {}
  uintptr_t begin, end;
};

// Calls visit(entry) for the accesses that overlap the range; visit returns the next entry to look at.
template <class Visit>
void for_each_overlap(Accesses& accesses, const Range& range, const Visit& visit) {
  auto entry = accesses.upper_bound(range.begin);
  if (entry != accesses.begin() && std::prev(entry)->second.end > range.begin) --entry;
  while (entry != accesses.end() && entry->first < range.end) entry = visit(entry);
}

void erase(Accesses& accesses, const Range& range) {
  for_each_overlap(accesses, range, [&](Accesses::iterator entry) { return accesses.erase(entry); });
}

void join(Progress& progress, const Progress& other) {
  for (const auto& [stream, count] : other) progress[stream] = std::max(progress[stream], count);
}

uint64_t at(const Progress& progress, uint64_t stream) {
  const auto entry = progress.find(stream);
  return entry == progress.end() ? 0 : entry->second;
}

void require_order(const StreamOrder& stream, Accesses& accesses, const Range& range, const char* does,
                   const char* others) {
  for_each_overlap(accesses, range, [&](Accesses::iterator entry) {
    const Access& other = entry->second;
    if (other.stream != stream.number && other.copy > at(stream.known, other.stream) &&
        other.copy > at(all_copies().host, other.stream)) {
      const uintptr_t first = std::max(entry->first, range.begin);
      const emulator::Device* owner = emulator::device_of(first);
      throw Error("INTERNAL", std::string("A copy ") + does + " " + std::to_string(range.end - range.begin) +
                                  " bytes, from " + (owner != nullptr ? owner->memory.describe(first) : "no device") +
                                  " on those that a copy of another stream " + others +
                                  ": its stream waits for no event behind that copy.");
    }
    return std::next(entry);
  });
}

}  // namespace

StreamOrder::StreamOrder()
    : number([] {
        const std::lock_guard lock(all_copies().mutex);
        return ++all_copies().streams;
      }()) {}

void order_copy(StreamOrder& stream, Touched reads, Touched writes) {
  const std::lock_guard lock(all_copies().mutex);
  const Range read(reads), written(writes);
  require_order(stream, all_copies().writes, read, "reads", "writes");
  require_order(stream, all_copies().writes, written, "writes", "writes");
  require_order(stream, all_copies().reads, written, "writes", "reads");
  const auto note = [&, copy = ++stream.copies](Accesses& accesses, const Range& range) {
    if (range.begin == range.end) return;
    erase(accesses, range);
    accesses[range.begin] = {range.end, stream.number, copy};
  };
  note(all_copies().reads, read);
  note(all_copies().writes, written);
}

Progress progress_of(const StreamOrder& stream) {
  const std::lock_guard lock(all_copies().mutex);
  Progress progress = stream.known;
  progress[stream.number] = stream.copies;
  return progress;
}

void learn(StreamOrder& stream, const Progress& progress) {
  const std::lock_guard lock(all_copies().mutex);
  join(stream.known, progress);
}

void host_learns(const Progress& progress) {
  const std::lock_guard lock(all_copies().mutex);
  join(all_copies().host, progress);
}

void forget_copies(const void* data, size_t bytes) {
  const std::lock_guard lock(all_copies().mutex);
  const Range range(Touched{data, bytes});
  erase(all_copies().reads, range);
  erase(all_copies().writes, range);
}

}  // namespace billfish::BILLFISH_TARGET
