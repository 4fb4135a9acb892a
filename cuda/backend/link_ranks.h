// How the ranks of a stage exchange values: in each other's memory, or through NCCL.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/backend.h"
#include "engine/rank_link.h"

namespace billfish::BILLFISH_TARGET {

struct RankLinkChoice {
  std::unique_ptr<RankLink> link;  // null: each other's memory
  std::string notice;              // what the user should know of it; may be empty
};

// Through NCCL where devices do not reach each other's memory, or BILLFISH_NCCL names a library. Throws INVALID_OPTION
// with the reasons where there is no way, and what NCCL answers where that fails.
RankLinkChoice link_ranks(const std::vector<Backend*>& ranks);

}  // namespace billfish::BILLFISH_TARGET
