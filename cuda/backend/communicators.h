// The ranks of a stage through NCCL: a communicator each, made together, and what is queued on their streams with it.
//
// All ranks begin the same operations in the same order, which their meetings see to. When one cannot (its device has
// failed, say), the others' devices would wait for ever: then abort() ends all communicators, and the next step makes
// new ones. Sums are added in the library's order, the same for all ranks, but not that of sum_ranks().
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
  // The streams of all ranks, in their order, which outlive this object. Sums numbers of all lengths that steps have
  // and sends from each to each: the first call that takes an algorithm waits, on the host, for the other ranks to
  // connect, which one that has failed never does. Throws INTERNAL or OUT_OF_MEMORY with what the library says,
  // INVALID_OPTION where one of the devices has a communicator already.
  Communicators(const NcclLibrary& library, std::vector<Stream*> streams);
  ~Communicators() override;

  void renew() override;
  void abort() noexcept override;

  // On the thread of each rank. x = the sum of all ranks' x, in fp32. Throws INTERNAL, or ABORTED after abort().
  void all_reduce(int rank, const Matrix<float>& x);
  // The pieces that a rank takes come into its out, but for its own.
  void exchange(int rank, const std::vector<RankValue>& values);

 private:
  struct Member {
    // Held in every call, so that abort() takes the communicator from nobody's hands; but from a call that does not
    // end, which waits for a rank that never comes, it must: only the abort ends it.
    std::mutex mutex;
    std::atomic<void*> communicator = nullptr;
  };
  void make();
  void try_out(std::vector<DeviceMemory>& numbers);
  // Calls queue(communicator, stream) with what happens on the rank's stream at once.
  template <class Queue>
  void queue(int rank, const Queue& queue);
  // What calls() calls, as one operation.
  template <class Calls>
  void in_group(const Calls& calls) const;
  void all_reduce(const Matrix<float>& x, void* communicator, void* stream) const;

  // Devices with a communicator of this process. Two of a device would be used by two threads: where a device comes to
  // the one first and its peer to the other, each would wait for its peer for ever.
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
