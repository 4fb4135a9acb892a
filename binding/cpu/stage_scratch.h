// How much scratch a stage's operators need: the bytes that src/placement/planner/cpu-scratch.ts plans.
#pragma once
#include <cstddef>
#include <vector>

#include "cpu/linear.h"
#include "engine/program.h"
#include "engine/stage_limits.h"

namespace billfish::cpu {

// The maximum over all operators, for batches within the limits.
size_t stage_scratch_bytes(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits,
                           Precision precision);

}  // namespace billfish::cpu
