// What a stage holds on a GPU, or an emulated one: known before anything is allocated, and what the backend allocates
// by.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/memory/allocation.h"
#include "cuda/memory/batch_layout.h"
#include "cuda/memory/linear_layout.h"
#include "cuda/memory/sampler_layout.h"
#include "engine/memory_count.h"
#include "engine/stage_allocations.h"

namespace billfish::gpu {

// Activations, 16-bit weights and the KV cache have one type of 16 bits; the residual stream and logits are fp32.
constexpr DType value_type(ValueClass kind, DType activation_type) {
  return kind == ValueClass::activation ? activation_type : DType::f32;
}

// What the backend's buffers have to provide for, besides arenas and KV cache.
struct StageNeeds {
  explicit StageNeeds(const StageOutline& stage);

  BatchLimits batch;
  std::vector<AttentionShape> attention;  // the distinct shapes
  size_t attention_scratch = 0;           // bytes, shared by all layers
  LinearLimits linear;
  bool has_linears = false;
  size_t grouping_bytes = 0;      // slots of experts, sorted
  int64_t gathered_elements = 0;  // inputs of slots, in the orders of their experts
  int64_t narrowed_elements = 0;  // fp32 inputs of linears, converted to 16 bits
  int64_t widened_elements = 0;   // 16-bit values on their way to the host or from there, as fp32
  int64_t peer_elements = 0;      // of each of the two peer send buffers, fp32
  SamplerLimits sampling;         // no rows except on the last stage
  size_t slab_bytes = 0;          // the largest slab that the loader uploads: no allocation of its own
};

// In bytes; 0: no allocation.
struct StageBuffers {
  StageBuffers(const StageNeeds& needs, const Program& program);
  size_t batch, attention_scratch, linear_workspace, grouping, gathered, narrowed, widened, peer, sampling;
};
// Buffers that hidden states are sent from, in turns.
constexpr size_t peer_buffers = 2;

// Bytes of a weight, as its allocation counts.
uint64_t weight_memory(const WeightShape& weight);

// All that the stage allocates, as it counts. Throws UNSUPPORTED_MODEL for more than max_bytes.
MemoryCount stage_memory(const StageOutline& stage);

}  // namespace billfish::gpu
