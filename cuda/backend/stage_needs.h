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
  std::vector<AttentionShape> attention;  // each shape that occurs, once
  size_t attention_scratch = 0;           // bytes; the layers take turns in it
  LinearLimits linear;
  bool has_linears = false;
  int64_t narrowed_elements = 0;  // of an input of linears that the stage has in fp32
  int64_t widened_elements = 0;   // of an output of the stage that it has in 16 bits
  int64_t peer_elements = 0;      // of each of two buffers of hidden states on their way to the next stage, in fp32
  SamplerLimits sampling;         // of the last stage; elsewhere no rows
  size_t slab_bytes = 0;          // the largest slab of a weight, as the loader brings it
};

}  // namespace billfish::BILLFISH_TARGET
