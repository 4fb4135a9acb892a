#include "engine/backend.h"

#include "engine/error.h"

namespace billfish {

void Backend::all_reduce(RankGroup&, int) { throw Error("INTERNAL", device() + " has no all-reduce."); }

void Backend::all_gather(const RankGroup&, int, const std::vector<GatheredPiece>&) {
  throw Error("INTERNAL", device() + " has no all-gather.");
}

}  // namespace billfish
