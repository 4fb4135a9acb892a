// The ranks of one stage (tensor parallelism): where they meet, and what they show each other.
//
// Every rank runs the same operators in the same order, each on a thread of its own. An operator that needs the others'
// values offers its own, meets, reads what the others offered, and meets again, so that nobody changes a value that
// another rank still reads.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/backend.h"
#include "engine/rank_link.h"

namespace billfish {

// What a rank offers to the others in an operator.
struct RankValue {
  Backend* backend = nullptr;
  Tensor x, out;                                       // out.data is null where the rank takes nothing
  const std::vector<GatheredPiece>* pieces = nullptr;  // of an all-gather: what the rank takes
};

class RankGroup {
 public:
  explicit RankGroup(int ranks) : values_(static_cast<size_t>(ranks)) {}

  int ranks() const { return static_cast<int>(values_.size()); }

  // Before a step, while no rank is at work: forgets that the step before was given up. Throws what RankLink::renew()
  // does.
  void begin();
  // After a step, when no rank is at work any more: throws why the first rank to do so gave up, if one did.
  void end();

  // Waits until all ranks are here. Throws ABORTED, once a rank has given up, at all meetings that it does not come to:
  // what all do between two meetings they all do, or none.
  void barrier();

  // Of this rank, before a meeting; after it, until the next one, `values` are those of all ranks.
  void publish(int rank, const RankValue& value) { values_[static_cast<size_t>(rank)] = value; }
  const std::vector<RankValue>& values() const { return values_; }

  // All ranks' backends, from before the first step on.
  void set_backends(std::vector<Backend*> backends) { backends_ = std::move(backends); }
  const std::vector<Backend*>& backends() const { return backends_; }

  // What they exchange values through; null: each other's memory. Before the first step, and null behind the last.
  void set_link(std::unique_ptr<RankLink> link) { link_ = std::move(link); }
  RankLink* link() const { return link_.get(); }

  // A rank will come to no further meeting of this step, for this reason: the others must not wait for it.
  void fail(std::exception_ptr reason);

 private:
  std::vector<RankValue> values_;
  std::vector<Backend*> backends_;
  std::unique_ptr<RankLink> link_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> generation_{0};  // that all have come to
  std::atomic<uint32_t> changes_{0};     // of what who waits for a meeting waits for
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr reason_;  // under `mutex_`
};

}  // namespace billfish
