// Collectives of a device with the other ranks of its stage. With a link (communicators.h) NCCL orders the streams
// itself. Otherwise each rank reads the others' memory through peer access, and the host queues the work in the order
// that the group's barriers enforce:
//
//   publish()       records an event after the values
//   -- barrier --
//   all_reduce()    waits, on the stream, for the others' events; reads; records that it has read
//   -- barrier --
//   release()       waits, on the stream, until the others have read
//
// A two-shot sum (layer/rank_sum.h) adds a barrier inside all_reduce(), between summing the rank's own share and
// gathering the others'.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/peer.h"
#include "engine/program.h"
#include "engine/rank_group.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// When ranks use a two-shot all-reduce (layer/rank_sum.h) instead of a one-shot one.
class TwoShot {
 public:
  // From BILLFISH_CUDA_TWO_SHOT: the bytes that the second shot must save each rank; 0: always; or 'never'. Throws
  // INVALID_OPTION.
  TwoShot();

  // The same for every rank of a sum of rows * columns, whose results take `out_bytes` each.
  bool pays(int ranks, int64_t rows, int64_t columns, int64_t out_bytes) const;

 private:
  int64_t min_saved_;
};

class RankExchange {
 public:
  explicit RankExchange(Stream& stream)
      : stream_(stream), published_(stream.device()), summed_(stream.device()), read_(stream.device()) {}

  void publish() { stream_.record(published_); }
  template <class Element>
  void all_reduce(const Peer& self, RankGroup& group, int rank);
  template <class Element>
  void all_gather(const Peer& self, const RankGroup& group, int rank);
  void release(const Peer& self, const RankGroup& group);

 private:
  template <class Out>
  void sum(const Peer& self, RankGroup& group, int rank);
  template <class Out>
  void sum_in_memory(const Peer& self, RankGroup& group, int rank);
  void wait_for(Event RankExchange::*event, const Peer& self, const std::vector<RankValue>& values);

  Stream& stream_;
  TwoShot two_shot_;
  Event published_, summed_, read_;
};

// How the ranks of a stage exchange values: through peer access or NCCL.
struct RankLinkChoice {
  std::unique_ptr<RankLink> link;  // null: each other's memory
  std::string notice;              // a notice for the user; may be empty
};

// NCCL if devices have no peer access, or if BILLFISH_NCCL names a library. Throws INVALID_OPTION with the reasons if
// there is no way, and NCCL's error if it fails.
RankLinkChoice link_ranks(const std::vector<Backend*>& ranks);

}  // namespace billfish::BILLFISH_TARGET
