#include "backend/communicators.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <set>
#include <thread>
#include <utility>

#include "engine/error.h"
#include "runtime/libraries.h"

namespace billfish::BILLFISH_TARGET {

Communicators::Communicators(const NcclLibrary& library, std::vector<Stream*> streams)
    : library_(library), streams_(std::move(streams)), devices_(streams_) {
  for (size_t rank = 0; rank < streams_.size(); ++rank) members_.push_back(std::make_unique<Member>());
  make();
}

namespace {

struct DevicesInUse {
  std::mutex mutex;
  std::set<int> indices;
};
DevicesInUse& devices_in_use() {
  static auto& devices = *new DevicesInUse;  // never destroyed
  return devices;
}

}  // namespace

Communicators::Devices::Devices(const std::vector<Stream*>& streams) {
  DevicesInUse& in_use = devices_in_use();
  const std::lock_guard lock(in_use.mutex);
  for (const Stream* stream : streams) {
    const Device& device = stream->device();
    if (in_use.indices.count(device.index()) > 0) {
      throw Error("INVALID_OPTION",
                  device.name() +
                      " computes another stage of several ranks through NCCL already, and with two of them devices may "
                      "wait for each other forever. Give a group of devices one stage of one model, whose modules "
                      "follow each other, or use devices that reach each other's memory.");
    }
    indices_.push_back(device.index());
  }
  in_use.indices.insert(indices_.begin(), indices_.end());
}

Communicators::Devices::~Devices() {
  DevicesInUse& in_use = devices_in_use();
  const std::lock_guard lock(in_use.mutex);
  for (const int index : indices_) in_use.indices.erase(index);
}

Communicators::~Communicators() {
  for (size_t rank = 0; rank < members_.size(); ++rank) {
    if (members_[rank]->communicator == nullptr) continue;
    make_current(*streams_[rank]);
    library_.destroy(members_[rank]->communicator);
  }
}

void Communicators::make() {
  std::vector<int> devices;
  for (const Stream* stream : streams_) devices.push_back(stream->device().index());
  std::vector<void*> communicators(streams_.size(), nullptr);
  library_.check(library_.init_all(communicators.data(), static_cast<int>(devices.size()), devices.data()),
                 "ncclCommInitAll for " + std::to_string(devices.size()) + " devices");
  for (size_t rank = 0; rank < members_.size(); ++rank) members_[rank]->communicator = communicators[rank];
  std::vector<DeviceMemory>
      numbers;  // destroyed after abort(): freeing it would wait for what a failed trial has started
  try {
    try_out(numbers);
  } catch (...) {
    abort();
    throw;
  }
}

// One thread drives all ranks, so their calls form one group. A rank's buffer has a segment for each rank: it sums its
// own and receives the others'. The library picks an algorithm by the length of a sum and connects it on first use, so
// zeros of all lengths come first.
void Communicators::try_out(std::vector<DeviceMemory>& numbers) {
  constexpr size_t count = 64, bytes = count * sizeof(float);
  const size_t ranks = members_.size();
  const auto run = [&](size_t rank, size_t of) { return numbers[rank].as<float>() + of * count; };
  for (size_t rank = 0; rank < ranks; ++rank) {
    numbers.emplace_back(streams_[rank]->device(), std::max(ranks * count, max_tried_sum) * sizeof(float));
    streams_[rank]->fill(numbers[rank].data(), 0, numbers[rank].bytes());
  }
  for (size_t length = count; length <= max_tried_sum; length *= 4) {
    in_group([&] {
      for (size_t rank = 0; rank < ranks; ++rank) {
        const auto columns = static_cast<int64_t>(length);
        const Matrix<float> x{run(rank, 0), 1, columns, columns};
        all_reduce(x, members_[rank]->communicator, library_stream(*streams_[rank]));
      }
    });
  }
  for (size_t rank = 0; rank < ranks; ++rank) {
    const std::vector<float> ones(count, 1);
    streams_[rank]->copy_to_device(run(rank, rank), ones.data(), bytes);
    streams_[rank]->synchronize();  // before the host buffer is freed
  }
  in_group([&] {
    for (size_t rank = 0; rank < ranks; ++rank) {
      const Matrix<float> x{run(rank, rank), 1, count, count};
      all_reduce(x, members_[rank]->communicator, library_stream(*streams_[rank]));
    }
  });
  in_group([&] {
    for (size_t rank = 0; rank < ranks; ++rank) {
      void* const communicator = members_[rank]->communicator;
      void* const stream = library_stream(*streams_[rank]);
      for (size_t other = 0; other < ranks; ++other) {
        if (other == rank) continue;
        const int peer = static_cast<int>(other);
        library_.check(library_.send(run(rank, rank), bytes, nccl_int8, peer, communicator, stream), "ncclSend");
        library_.check(library_.receive(run(rank, other), bytes, nccl_int8, peer, communicator, stream), "ncclRecv");
      }
    }
  });
  for (size_t rank = 0; rank < ranks; ++rank) {
    std::vector<float> sums(ranks * count);
    streams_[rank]->copy_to_host(sums.data(), numbers[rank].data(), ranks * bytes);
    streams_[rank]->synchronize();
    if (sums == std::vector<float>(ranks * count, static_cast<float>(ranks))) continue;
    throw Error("INTERNAL",
                "NCCL (" + library_.path + ") sums wrong on " + streams_[rank]->device().name() +
                    ": NCCL_P2P_DISABLE=1 makes it go through the host, BILLFISH_NCCL=off does without it.");
  }
}

void Communicators::renew() {
  bool whole = true;
  for (const auto& member : members_) whole = whole && member->communicator != nullptr;
  if (!whole) make();
}

void Communicators::abort() noexcept {
  constexpr std::chrono::seconds max_call_time{
      1};  // calls only queue; one that takes longer is waiting for another rank
  for (const auto& member : members_) {
    // Polls, because ThreadSanitizer does not understand std::timed_mutex.
    std::unique_lock lock(member->mutex, std::try_to_lock);
    const auto deadline = std::chrono::steady_clock::now() + max_call_time;
    while (!lock.owns_lock() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
      (void)lock.try_lock();
    }
    if (void* const communicator = member->communicator.exchange(nullptr)) library_.abort(communicator);
  }
}

template <class Queue>
void Communicators::queue(int rank, const Queue& queue) {
  Member& member = *members_[static_cast<size_t>(rank)];
  Stream& stream = *streams_[static_cast<size_t>(rank)];
  const std::lock_guard lock(member.mutex);
  void* const communicator = member.communicator;
  if (communicator == nullptr) throw Error("ABORTED", "Another rank of the stage failed.");
  make_current(stream);
  int status = nccl_success;
  library_.check(library_.get_async_error(communicator, &status), "ncclCommGetAsyncError");
  if (status != nccl_in_progress) library_.check(status, "what was under way on " + stream.device().name());
  try {
    in_group([&] { queue(communicator, library_stream(stream)); });
  } catch (const Error&) {
    // The rank that failed reports the reason, not the call that its abort ended.
    if (member.communicator == nullptr) throw Error("ABORTED", "Another rank of the stage failed.");
    throw;
  }
}

template <class Calls>
void Communicators::in_group(const Calls& calls) const {
  library_.check(library_.group_start(), "ncclGroupStart");
  try {
    calls();
  } catch (...) {
    library_.group_end();  // which reports the same error
    throw;
  }
  library_.check(library_.group_end(), "ncclGroupEnd");
}

void Communicators::all_reduce(int rank, const Matrix<float>& x) {
  queue(rank, [&](void* communicator, void* stream) { all_reduce(x, communicator, stream); });
}

// One call, or one per row if rows are not contiguous.
void Communicators::all_reduce(const Matrix<float>& x, void* communicator, void* stream) const {
  const bool packed = x.stride == x.columns;
  const int64_t calls = packed ? 1 : x.rows, count = packed ? x.rows * x.columns : x.columns;
  for (int64_t i = 0; i < calls; ++i) {
    float* const values = x.data + i * x.stride;
    library_.check(
        library_.all_reduce(values, values, static_cast<size_t>(count), nccl_float32, nccl_sum, communicator, stream),
        "ncclAllReduce of " + std::to_string(count) + " numbers");
  }
}

// One call per piece and row, in the same order on both sides.
void Communicators::exchange(int rank, const std::vector<RankValue>& values) {
  const auto address = [](const Tensor& tensor, int64_t row, int64_t column) {
    return static_cast<char*>(tensor.data) + static_cast<size_t>(row * tensor.stride + column) * byte_size(tensor.type);
  };
  const RankValue& own = values[static_cast<size_t>(rank)];
  queue(rank, [&](void* communicator, void* stream) {
    for (int receiver = 0; receiver < static_cast<int>(values.size()); ++receiver) {
      const RankValue& other = values[static_cast<size_t>(receiver)];
      if (other.out.data == nullptr) continue;
      for (int64_t row = 0; row < own.x.rows; ++row) {
        for (const GatheredPiece& piece : *other.pieces) {
          const size_t bytes = static_cast<size_t>(piece.count) * byte_size(own.x.type);
          if (receiver != rank && piece.rank == rank) {
            library_.check(
                library_.send(address(own.x, row, piece.from), bytes, nccl_int8, receiver, communicator, stream),
                "ncclSend");
          } else if (receiver == rank && piece.rank != rank) {
            library_.check(
                library_.receive(address(own.out, row, piece.to), bytes, nccl_int8, piece.rank, communicator, stream),
                "ncclRecv");
          }
        }
      }
    }
  });
}

}  // namespace billfish::BILLFISH_TARGET
