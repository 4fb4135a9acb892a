// How the ranks of a stage exchange values: through peer access or NCCL.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/rank_link.h"

namespace billfish::BILLFISH_TARGET {

struct RankLinkChoice {
  std::unique_ptr<RankLink> link;  // null: each other's memory
  std::string notice;              // a notice for the user; may be empty
};

// NCCL if devices have no peer access, or if BILLFISH_NCCL names a library. Throws INVALID_OPTION with the reasons if
// there is no way, and NCCL's error if it fails.
RankLinkChoice link_ranks(const std::vector<Backend*>& ranks);

}  // namespace billfish::BILLFISH_TARGET
