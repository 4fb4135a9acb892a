// The last part of loading: a first prefill and first decode steps, of a dummy sequence.
//
// One-time work of a device (loading kernels, initializing a library, capturing graphs) happens here, and what the
// device cannot do, for lack of memory for instance, fails the load rather than a user's request.
#pragma once
#include <atomic>
#include <cstddef>

#include "engine/pipeline.h"
#include "engine/stage_limits.h"

namespace billfish {

// Runs steps on the first KV blocks, which no sequence owns yet, if a stage's backend wants it. Returns how many tokens
// they sampled. Throws what a step fails with; ABORTED soon after `cancelled`.
size_t warm_up(Pipeline& pipeline, const StageLimits& limits, const std::atomic<bool>& cancelled);

}  // namespace billfish
