#include "engine/backend.h"

#include "engine/error.h"

namespace billfish {

void Backend::all_reduce(const std::vector<RankValue>&, int) {
  throw Error("INTERNAL", device() + " has no all-reduce.");
}

void Backend::all_gather(const std::vector<RankValue>&, int, const std::vector<GatheredPiece>&) {
  throw Error("INTERNAL", device() + " has no all-gather.");
}

}  // namespace billfish
