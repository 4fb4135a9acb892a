// Collectives of CPU ranks, which share this process's memory. fp32.
#pragma once
#include <vector>

#include "engine/program.h"
#include "engine/rank_group.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// Computes this rank's share of the columns, in every rank's out: sums of all ranks' x, starting with rank 0.
void all_reduce(const std::vector<RankValue>& values, int rank, ThreadPool& pool);

void all_gather(const std::vector<RankValue>& values, int rank);

}  // namespace billfish::cpu
