// NCCL communicators of a stage's ranks, one per rank, and the collectives queued on the ranks' streams.
//
// Every rank issues the same collectives in the same order; the barriers of RankGroup see to that. If one cannot (say,
// its device has failed), the others' devices would hang: abort() then aborts all communicators, and the next step
// makes new ones. Sums are added in NCCL's order, which is the same for all ranks but not that of sum_ranks().
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/program.h"
#include "engine/rank_group.h"
#include "layer/tensor.h"
#include "platform/nccl_library.h"
#include "runtime/memory.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class Communicators final : public RankLink {
 public:
  // `streams`: those of all ranks in order; they outlive this object. Runs trial sums of every length that steps use,
  // and sends between all pairs: the first use of an algorithm blocks the host until the other ranks connect, which a
  // failed rank never does. Throws INTERNAL or OUT_OF_MEMORY with the library's message, INVALID_OPTION if one of the
  // devices already has a communicator.
  Communicators(const NcclLibrary& library, std::vector<Stream*> streams);
  ~Communicators() override;

  void renew() override;
  void abort() noexcept override;

  // Called on each rank's thread. x = the sum of all ranks' x, in fp32. Throws INTERNAL, or ABORTED after abort().
  void all_reduce(int rank, const Matrix<float>& x);
  // Receives the other ranks' pieces into the rank's out.
  void exchange(int rank, const std::vector<RankValue>& values);

 private:
  struct Member {
    // Held during every call, so that abort() does not pull the communicator out from under one. It must, though, if a
    // call hangs waiting for a rank that never arrives: only the abort ends that.
    std::mutex mutex;
    std::atomic<void*> communicator = nullptr;
  };
  void make();
  void try_out(std::vector<DeviceMemory>& numbers);
  // Calls queue(communicator, stream); what it queues is one group on the rank's stream.
  template <class Queue>
  void queue(int rank, const Queue& queue);
  // Runs calls() as one NCCL group.
  template <class Calls>
  void in_group(const Calls& calls) const;
  void all_reduce(const Matrix<float>& x, void* communicator, void* stream) const;

  // Devices that have a communicator in this process. Two communicators of one device would be driven by two threads,
  // and if a device ran one first and its peer the other, both would wait forever.
  class Devices {
   public:
    explicit Devices(const std::vector<Stream*>& streams);
    ~Devices();

   private:
    std::vector<int> indices_;
  };

  const NcclLibrary& library_;
  std::vector<Stream*> streams_;
  const Devices devices_;
  std::vector<std::unique_ptr<Member>> members_;
};

}  // namespace billfish::BILLFISH_TARGET
