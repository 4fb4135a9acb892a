// The last part of loading: a first prompt and first decode steps, of a sequence that nobody sees.
//
// What a device does when it is first asked (loading kernels, a library's preparations, recording steps) is done then,
// and what it cannot do, for lack of memory for instance, fails the loading and not a user's request.
#pragma once
#include <atomic>
#include <cstddef>

#include "engine/pipeline.h"
#include "engine/stage_limits.h"

namespace billfish {

// Runs steps on the first KV blocks, of which no sequence has one yet; only where a stage's backend wants it. Returns
// how many tokens they drew. Throws what a step fails with; ABORTED soon after `cancelled`.
size_t warm_up(Pipeline& pipeline, const StageLimits& limits, const std::atomic<bool>& cancelled);

}  // namespace billfish
