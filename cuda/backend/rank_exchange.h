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
// A two-shot sum (two_shot.h) adds a barrier inside all_reduce(), between summing the rank's own share and gathering
// the others'.
#pragma once
#include <vector>

#include "backend/peer.h"
#include "backend/two_shot.h"
#include "engine/program.h"
#include "engine/rank_group.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

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

}  // namespace billfish::BILLFISH_TARGET
