// An NCCL for tests, of the functions that billfish calls, for emulated streams: what all ranks have begun happens once
// their streams are there, whichever comes first, and who waits for a rank that never comes, or whose device has
// failed, waits until an abort. It refuses what NCCL forbids: sends outside of groups, ranks that do not do the same,
// calls after an abort. Version 2.99.1.
#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/emulator/runtime/library_stream.h"

using billfish::emulator::LibraryStream;

namespace {

constexpr int success = 0, invalid_argument = 4, invalid_usage = 5, remote_error = 6;
constexpr int int8 = 0, float32 = 7, sum = 0;

// What one rank brings to an operation.
struct Part {
  const LibraryStream* stream;
  const void* from;
  void* to;
  size_t count;
  void* mark = nullptr;  // all that the stream does before
};

// Of all ranks, or of a sender and a receiver.
struct Operation {
  size_t ranks;
  std::map<int, Part> parts = {};
  bool started = false, done = false, failed = false;
  ~Operation() {
    for (auto& [rank, part] : parts) part.stream->forget(part.mark);
  }
};

// Sums: (-1, -1, number); sends: (sender, receiver, number).
using Key = std::tuple<int, int, uint64_t>;

struct Group {
  int ranks;
  std::mutex mutex;
  std::condition_variable changed;
  bool aborted = false;
  std::map<Key, std::shared_ptr<Operation>> operations = {};  // that not all have come to
  std::map<Key, uint64_t> begun = {};                         // of each rank: by (sender, receiver, rank)
  std::set<std::pair<int, int>> connected = {};               // senders with their receivers
};

struct Communicator {
  std::shared_ptr<Group> group;
  int rank;
};

struct Call {
  Communicator* communicator;
  int sender, receiver;  // -1 in sums
  Part part;
};
thread_local int depth = 0, failure = success;  // of the group in flight
thread_local std::vector<Call> calls;

std::mutex failing_mutex;
int made = 0, gone = 0, connections = 0, fail_after = -1, stall_after = -1;
size_t longest_sum = 0;

bool add(const Operation& operation) {
  const size_t count = operation.parts.begin()->second.count;
  std::vector<float> sums(count, 0), values(count);
  for (const auto& [rank, part] : operation.parts) {
    const std::byte* from = part.stream->bytes(part.stream->stream, part.from, count * sizeof(float), true);
    if (from == nullptr || part.count != count) return false;
    std::memcpy(values.data(), from, count * sizeof(float));
    for (size_t i = 0; i < count; ++i) sums[i] += values[i];
  }
  for (const auto& [rank, part] : operation.parts) {
    std::byte* to = part.stream->bytes(part.stream->stream, part.to, count * sizeof(float), false);
    if (to == nullptr) return false;
    std::memcpy(to, sums.data(), count * sizeof(float));
  }
  return true;
}

bool move(const Operation& operation) {
  const Part *from = nullptr, *to = nullptr;
  for (const auto& [rank, part] : operation.parts) (part.from != nullptr ? from : to) = &part;
  if (from == nullptr || to == nullptr || from->count != to->count) return false;
  const std::byte* source = from->stream->bytes(from->stream->stream, from->from, from->count, true);
  std::byte* target = to->stream->bytes(to->stream->stream, to->to, to->count, false);
  if (source == nullptr || target == nullptr) return false;
  std::memcpy(target, source, from->count);
  return true;
}

struct Work {
  std::shared_ptr<Group> group;
  std::shared_ptr<Operation> operation;
  bool is_sum;
};

// On whichever thread runs a stream. The first one does what is done, once all streams have come here.
bool run(void* argument) {
  const Work& work = *static_cast<Work*>(argument);
  Group& group = *work.group;
  Operation& operation = *work.operation;
  std::unique_lock lock(group.mutex);
  group.changed.wait(lock, [&] { return operation.parts.size() == operation.ranks || group.aborted; });
  if (operation.parts.size() < operation.ranks) return true;  // aborted: nobody looks at what is there
  if (operation.started) {
    group.changed.wait(lock, [&] { return operation.done || group.aborted; });
    return !operation.failed;
  }
  operation.started = true;
  lock.unlock();
  bool all_come = true;
  for (auto& [rank, part] : operation.parts) all_come = part.stream->reach(part.mark) && all_come;
  if (!all_come) {
    lock.lock();
    group.changed.wait(lock, [&] { return group.aborted; });
    return true;
  }
  const bool good = work.is_sum ? add(operation) : move(operation);
  lock.lock();
  operation.done = true;
  operation.failed = !good;
  group.changed.notify_all();
  return good;
}

// All calls of a group are there before any of them runs.
int begin(std::vector<Call>& all) {
  std::vector<std::pair<const LibraryStream*, Work*>> queued;
  for (Call& call : all) {
    Group& group = *call.communicator->group;
    const int rank = call.communicator->rank;
    const bool is_sum = call.sender < 0;
    call.part.mark = call.part.stream->mark(call.part.stream->stream);
    const std::lock_guard lock(group.mutex);
    const uint64_t number = group.begun[{call.sender, call.receiver, static_cast<uint64_t>(rank)}]++;
    const Key key{call.sender, call.receiver, number};
    std::shared_ptr<Operation>& operation = group.operations[key];
    if (!operation) {
      operation = std::make_shared<Operation>(Operation{is_sum ? static_cast<size_t>(group.ranks) : 2});
    }
    operation->parts.emplace(rank, call.part);
    queued.emplace_back(call.part.stream, new Work{call.communicator->group, operation, is_sum});
    if (operation->parts.size() == operation->ranks) group.operations.erase(key);
    group.changed.notify_all();
  }
  all.clear();
  for (const auto& [stream, work] : queued) {
    stream->enqueue(stream->stream, run, work, [](void* argument) { delete static_cast<Work*>(argument); });
  }
  return success;
}

// A call that waits on the host, as for a rank that does not connect, until its communicator is aborted.
bool stalls(std::shared_ptr<Group> group) {  // a copy: the abort deletes the communicator
  {
    const std::lock_guard lock(failing_mutex);
    if (stall_after < 0 || stall_after-- != 0) return false;
  }
  std::unique_lock lock(group->mutex);
  group->changed.wait(lock, [&] { return group->aborted; });
  return true;
}

int queue(Communicator* communicator, int sender, int receiver, const Part& part) {
  if (stalls(communicator->group)) return depth > 0 ? failure = remote_error : remote_error;
  {
    const std::lock_guard lock(failing_mutex);
    if (fail_after >= 0 && fail_after-- == 0) return depth > 0 ? failure = remote_error : remote_error;
  }
  {
    Group& group = *communicator->group;
    const std::scoped_lock lock(group.mutex, failing_mutex);
    if (group.aborted) return invalid_usage;
    if (sender < 0) longest_sum = std::max(longest_sum, part.count);
    if (sender >= 0 && group.connected.emplace(sender, receiver).second) ++connections;
  }
  calls.push_back({communicator, sender, receiver, part});
  return depth > 0 ? success : begin(calls);
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default")))

// By which billfish knows that these are emulated streams.
FAKE int billfish_takes_emulated_streams() { return 1; }

FAKE int ncclGetVersion(int* version) {
  *version = 29901;
  return success;
}
FAKE const char* ncclGetErrorString(int status) {
  switch (status) {
    case invalid_argument:
      return "invalid argument";
    case invalid_usage:
      return "invalid usage";
    case remote_error:
      return "remote process exited or there was a network error";
    default:
      return "no error";
  }
}
FAKE int ncclCommInitAll(void** communicators, int count, const int* devices) {
  for (int i = 0; i < count; ++i) {
    if (std::count(devices, devices + count, devices[i]) != 1) return invalid_usage;
  }
  auto group = std::make_shared<Group>();
  group->ranks = count;
  for (int i = 0; i < count; ++i) communicators[i] = new Communicator{group, i};
  const std::lock_guard lock(failing_mutex);
  made += count;
  return success;
}
static int end(void* communicator) {
  delete static_cast<Communicator*>(communicator);
  const std::lock_guard lock(failing_mutex);
  ++gone;
  return success;
}
FAKE int ncclCommDestroy(void* communicator) { return end(communicator); }
FAKE int ncclCommAbort(void* communicator) {
  Group& group = *static_cast<Communicator*>(communicator)->group;
  {
    const std::lock_guard lock(group.mutex);
    group.aborted = true;
    group.changed.notify_all();
  }
  return end(communicator);
}
FAKE int ncclCommGetAsyncError(void*, int* status) {
  *status = success;
  return success;
}
FAKE int ncclAllReduce(const void* from, void* to, size_t count, int type, int operation, void* communicator,
                       void* stream) {
  if (type != float32 || operation != sum) return invalid_argument;
  return queue(static_cast<Communicator*>(communicator), -1, -1,
               {static_cast<const LibraryStream*>(stream), from, to, count});
}
FAKE int ncclSend(const void* from, size_t count, int type, int to_rank, void* communicator, void* stream) {
  auto* const self = static_cast<Communicator*>(communicator);
  if (type != int8 || to_rank == self->rank) return invalid_argument;
  if (depth == 0) return invalid_usage;
  return queue(self, self->rank, to_rank, {static_cast<const LibraryStream*>(stream), from, nullptr, count});
}
FAKE int ncclRecv(void* to, size_t count, int type, int from_rank, void* communicator, void* stream) {
  auto* const self = static_cast<Communicator*>(communicator);
  if (type != int8 || from_rank == self->rank) return invalid_argument;
  if (depth == 0) return invalid_usage;
  return queue(self, from_rank, self->rank, {static_cast<const LibraryStream*>(stream), nullptr, to, count});
}
FAKE int ncclGroupStart() {
  ++depth;
  return success;
}
FAKE int ncclGroupEnd() {
  if (depth == 0) return invalid_usage;
  if (--depth > 0) return success;
  if (failure == success) return begin(calls);
  calls.clear();  // none of a group happens in which one call has failed
  return std::exchange(failure, success);
}

// For the tests: how many communicators there are, and that the call after so many more fails (-1: none does).
FAKE int fake_nccl_communicators() {
  const std::lock_guard lock(failing_mutex);
  return made - gone;
}
FAKE int fake_nccl_made() {
  const std::lock_guard lock(failing_mutex);
  return made;
}
// Pairs of ranks one of which has sent to the other, of all communicators that there ever were.
FAKE int fake_nccl_connections() {
  const std::lock_guard lock(failing_mutex);
  return connections;
}
// The call after so many more waits until its communicator is aborted.
FAKE void fake_nccl_stall_after(int calls_before) {
  const std::lock_guard lock(failing_mutex);
  stall_after = calls_before;
}
// Numbers of the longest sum since the last time that this was asked.
FAKE size_t fake_nccl_longest_sum() {
  const std::lock_guard lock(failing_mutex);
  return std::exchange(longest_sum, 0);
}
FAKE void fake_nccl_fail_after(int calls_before) {
  const std::lock_guard lock(failing_mutex);
  fail_after = calls_before;
}
