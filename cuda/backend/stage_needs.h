// What a stage's program needs of a device besides weights, cache and arenas: known before anything is allocated. Its
// twin, which plans the same bytes, is src/placement/planner/cuda-memory.ts.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/program.h"
#include "engine/stage_limits.h"
#include "gemm/linear.h"
#include "layer/attention_plan.h"
#include "layer/batch.h"
#include "layer/sampling.h"

namespace billfish::BILLFISH_TARGET {

struct StageNeeds {
  StageNeeds(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits);

  BatchLimits batch;
  std::vector<AttentionShape> attention;  // the distinct shapes
  size_t attention_scratch = 0;           // bytes, shared by all layers
  LinearLimits linear;
  bool has_linears = false;
  int64_t narrowed_elements = 0;  // fp32 inputs of linears, converted to 16 bits
  int64_t widened_elements = 0;   // 16-bit outputs of the stage, converted to fp32
  int64_t peer_elements = 0;      // of each of the two peer send buffers, fp32
  SamplerLimits sampling;         // no rows except on the last stage
  size_t slab_bytes = 0;          // the largest slab that the loader uploads
};

}  // namespace billfish::BILLFISH_TARGET
