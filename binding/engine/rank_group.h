// The ranks of one stage (tensor parallelism): their barrier, and the values that they publish to each other.
//
// Every rank runs the same operators in the same order, each on its own thread. A collective publishes the rank's
// value, passes a barrier, reads the others' values, and passes another barrier before anyone changes a value that
// another rank may still read.
#pragma once
#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/backend.h"

namespace billfish {

// How ranks of a stage exchange values if not through each other's memory.
class RankLink {
 public:
  virtual ~RankLink() = default;

  // Before a step, while no rank is running: reconnects after abort(). Throws if it cannot.
  virtual void renew() = 0;

  // Aborts collectives that one rank will not take part in. From any thread, while ranks may be using the link.
  virtual void abort() noexcept = 0;
};

// What a rank publishes to the others in a collective.
struct RankValue {
  Backend* backend = nullptr;
  Tensor x, out;                                       // out.data is null if the rank receives nothing
  const std::vector<GatheredPiece>* pieces = nullptr;  // of an all-gather: what the rank receives
};

class RankGroup {
 public:
  explicit RankGroup(int ranks) : values_(static_cast<size_t>(ranks)) {}

  int ranks() const { return static_cast<int>(values_.size()); }

  // Before a step, while no rank is running: clears the previous step's failure. Throws what RankLink::renew() throws.
  void begin();
  // After a step, when no rank is running: throws the reason of the first rank that failed, if any did.
  void end();

  // Waits until all ranks have arrived. Once a rank has failed, throws ABORTED at every barrier that it does not reach,
  // so between two barriers either all ranks act or none.
  void barrier();

  // Sets this rank's value, before a barrier; after it, until the next one, `values` holds those of all ranks.
  void publish(int rank, const RankValue& value) { values_[static_cast<size_t>(rank)] = value; }
  const std::vector<RankValue>& values() const { return values_; }

  // All ranks' backends, set before the first step.
  void set_backends(std::vector<Backend*> backends) { backends_ = std::move(backends); }
  const std::vector<Backend*>& backends() const { return backends_; }

  // The link for collectives; null: each other's memory. Set before the first step, and null after the last.
  void set_link(std::unique_ptr<RankLink> link) { link_ = std::move(link); }
  RankLink* link() const { return link_.get(); }

  // This rank will reach no further barrier of this step, for this reason; the others must not wait for it.
  void fail(std::exception_ptr reason);

 private:
  std::vector<RankValue> values_;
  std::vector<Backend*> backends_;
  std::unique_ptr<RankLink> link_;
  std::atomic<int> arrived_{0};
  std::atomic<uint32_t> generation_{0};  // completed barriers
  std::atomic<uint32_t> changes_{0};     // bumped whenever a waiting rank should look again
  std::atomic<bool> failed_{false};
  std::mutex mutex_;
  std::exception_ptr reason_;  // under `mutex_`
};

// Ends a step of several groups that have a rank in common, which tells all of them when one fails. Throws the reason
// that the others were told of.
void end_all(const std::vector<RankGroup*>& groups);

}  // namespace billfish
