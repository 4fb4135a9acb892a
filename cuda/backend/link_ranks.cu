#include "backend/link_ranks.h"

#include "backend/communicators.h"
#include "backend/peer.h"
#include "engine/error.h"
#include "layer/rank_sum.h"
#include "runtime/collectives.h"

namespace billfish::BILLFISH_TARGET {

// Why the ranks have no peer access; empty if they have it.
static std::string peer_access_error_among(const std::vector<Peer*>& ranks) {
  for (const Peer* one : ranks) {
    for (const Peer* other : ranks) {
      const std::string objection = one->target_device().peer_access_error(other->target_device());
      if (!objection.empty()) return objection;
    }
  }
  return "";
}

RankLinkChoice link_ranks(const std::vector<Backend*>& ranks) {
  if (ranks.size() > max_ranks) {
    throw Error("INVALID_OPTION", std::to_string(ranks.size()) + " ranks a stage (tensorParallelSize), where " +
                                      std::to_string(max_ranks) + " are possible on GPUs.");
  }
  std::vector<Peer*> peers;
  std::vector<Stream*> streams;
  std::string names;
  for (Backend* rank : ranks) {
    auto* const peer = dynamic_cast<Peer*>(rank);
    if (peer == nullptr) refuse_ranks(*ranks[0], *rank);
    peers.push_back(peer);
    streams.push_back(&peer->stream());
    names += (names.empty() ? "" : ", ") + rank->device();
  }
  const std::string objection = peer_access_error_among(peers);
  const NcclLibrary& library = collective_library();
  if (objection.empty() && !library.requested) return {};
  if (!library.reason.empty()) {
    if (objection.empty()) throw Error("INVALID_OPTION", library.reason + " Unset it, or name NCCL's file.");
    throw Error("INVALID_OPTION", names + " cannot compute a stage together: " + objection +
                                      ", and NCCL, which needs no such reach, is not there: " + library.reason);
  }
  RankLinkChoice choice{std::make_unique<Communicators>(library, streams), ""};
  if (!objection.empty()) {
    choice.notice = "The ranks on " + names + " exchange values through NCCL " + nccl_version_text(library.version) +
                    " (" + library.path + "), which may be slower and takes memory that plans do not count, because " +
                    objection + ".";
  }
  return choice;
}

}  // namespace billfish::BILLFISH_TARGET
