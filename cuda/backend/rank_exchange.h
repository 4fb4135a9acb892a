// What a device does together with the other ranks of its stage. Each reads the others' values in their own memory,
// which it reaches; the host's part is to queue that, in the order that the ranks' meetings give:
//
//   offer()         what was computed is marked by an event
//   -- all ranks meet --
//   all_reduce()    waits, on the stream, for the others' marks; reads; is marked as read
//   -- all ranks meet --
//   withdraw()      waits, on the stream, until the others have read
#pragma once
#include <vector>

#include "backend/peer.h"
#include "engine/program.h"
#include "engine/rank_group.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class RankExchange {
 public:
  explicit RankExchange(Stream& stream) : stream_(stream), offered_(stream.device()), read_(stream.device()) {}

  void offer() { stream_.record(offered_); }
  template <class Element>
  void all_reduce(const Peer& self, const std::vector<RankValue>& values, int rank);
  template <class Element>
  void all_gather(const Peer& self, const std::vector<RankValue>& values, int rank,
                  const std::vector<GatheredPiece>& pieces);
  void withdraw(const Peer& self, const std::vector<Backend*>& ranks);

 private:
  void wait_for_offers(const Peer& self, const std::vector<RankValue>& values);

  Stream& stream_;
  Event offered_, read_;
};

}  // namespace billfish::BILLFISH_TARGET
