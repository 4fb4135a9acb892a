#include "engine/backend.h"

#include "engine/error.h"
#include "engine/rank_group.h"

namespace billfish {

std::unique_ptr<RankLink> Backend::link(const std::vector<Backend*>& ranks) { refuse_ranks(*ranks[0], *ranks[1]); }

void Backend::all_reduce(RankGroup&, int) { throw Error("INTERNAL", device() + " has no all-reduce."); }

void Backend::all_gather(const RankGroup&, int) { throw Error("INTERNAL", device() + " has no all-gather."); }

void refuse_ranks(const Backend& one, const Backend& other) {
  throw Error("INVALID_OPTION", one.device() + " cannot compute a stage together with " + other.device() +
                                    "; tensor parallelism is for devices of one kind.");
}

}  // namespace billfish
