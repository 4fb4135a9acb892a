// What a device does together with the other ranks of its stage: through NCCL (communicators.h) where the group has
// that link, which orders streams by itself. Else each reads the others' values in their own memory, which it reaches;
// the host's part is to queue that, in the order that the ranks' meetings give:
//
//   offer()         what was computed is marked by an event
//   -- all ranks meet --
//   all_reduce()    waits, on the stream, for the others' marks; reads; is marked as read
//   -- all ranks meet --
//   withdraw()      waits, on the stream, until the others have read
//
// A sum in two shots (two_shot.h) has one more meeting, within all_reduce(): what each has summed of its share is
// marked before it, and read, where the others want it, behind it.
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
