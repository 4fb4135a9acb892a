// Collectives of CPU ranks, which share this process's memory. fp32.
#pragma once
#include <vector>

#include "engine/program.h"
#include "engine/rank_group.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// Of every rank's out, the columns that are this rank's to compute: sums of all ranks' x, from rank 0 on.
void all_reduce(const std::vector<RankValue>& values, int rank, ThreadPool& pool);

void all_gather(const std::vector<RankValue>& values, int rank);

}  // namespace billfish::cpu
