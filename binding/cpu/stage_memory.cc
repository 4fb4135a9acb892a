#include "cpu/stage_memory.h"

#include <algorithm>

#include "cpu/attention.h"
#include "cpu/grouped_linear.h"
#include "cpu/host_memory.h"
#include "cpu/operators.h"
#include "engine/sampling.h"

namespace billfish::cpu {
namespace {

// Scratch of one operator, for batches within the stage's limits. Those that are not named here need none.
template <class Operator>
uint64_t scratch_bytes(const Operator&, const StageOutline&, Precision) {
  return 0;
}

// The most that bytes(call, weight) gives for the targets of a linear, or of experts'.
template <class Bytes>
uint64_t most_of_targets(const std::vector<LinearTarget>& targets, const StageOutline& stage, Bytes bytes) {
  uint64_t most = 0;
  for (const LinearTarget& target : targets) {
    const WeightShape& weight = stage.weights[target.weight];
    Matrix matrix;
    QuantizedLinear quantized;
    LinearCall call;
    if (weight.kind == WeightKind::quantized) {
      quantized.type = weight.codes;
      quantized.in = weight.in;
      quantized.group_size = weight.group_size;
      call.quantized = &quantized;
    } else {
      matrix.in = weight.in;
      call.matrix = &matrix;
    }
    most = std::max<uint64_t>(most, bytes(call, weight));
  }
  return most;
}

uint64_t scratch_bytes(const Linear& linear, const StageOutline& stage, Precision precision) {
  const int64_t rows = stage.rows_of(stage.program.values[linear.x]);
  return most_of_targets(linear.targets, stage, [&](const LinearCall& call, const WeightShape&) {
    return linear_scratch_bytes(call, rows, precision);
  });
}

uint64_t scratch_bytes(const GroupedLinear& linear, const StageOutline& stage, Precision precision) {
  const int64_t rows = stage.rows_of(stage.program.values[linear.x]);
  const int64_t per_token = stage.program.values[linear.routing].width / 2;
  return most_of_targets(linear.targets, stage, [&](const LinearCall& call, const WeightShape& weight) {
    return grouped_linear_scratch_bytes(call, rows, per_token, weight.experts, precision);
  });
}

uint64_t scratch_bytes(const billfish::Attention& attention, const StageOutline& stage, Precision) {
  const CacheLayer& layer = stage.program.cache_layers[attention.layer];
  return attention_scratch_bytes(attention.heads, layer.kv_heads, layer.head_dim, stage.limits.max_rows,
                                 stage.limits.positions());
}

uint64_t scratch_bytes(const billfish::GatedDeltaRule& rule, const StageOutline& stage, Precision) {
  return delta_rule_scratch_bytes(stage.limits.max_rows, rule.heads, rule.key_heads);
}

}  // namespace

StageBuffers stage_buffers(const StageOutline& stage, Precision precision) {
  StageBuffers needs;
  for (const RopeSpec& rope : stage.program.ropes) {
    const uint64_t frequencies = rope.inverse_frequency.size() * sizeof(float);
    needs.rope_tables.push_back(2 * frequencies * static_cast<uint64_t>(stage.limits.max_rows));
    needs.scratch = std::max<uint64_t>(needs.scratch, scratch_piece(frequencies));  // a sequence's own
  }
  for (const Operator& op : stage.program.operators) {
    const uint64_t bytes = std::visit([&](const auto& o) { return scratch_bytes(o, stage, precision); }, op);
    needs.scratch = std::max(needs.scratch, bytes);
  }
  if (stage.program.output == no_value || stage.program.hands_over) return needs;
  needs.sampling = SamplingScratch::bytes(static_cast<int32_t>(stage.program.values[stage.program.output].width));
  return needs;
}

uint64_t weight_memory(const WeightShape& weight) {
  switch (weight.kind) {
    case WeightKind::vector:
      return HostMemory::counted(vector_bytes(static_cast<uint64_t>(weight.out)));
    case WeightKind::matrix:
      return HostMemory::counted(matrix_bytes(weight.out, weight.in, weight.type)) +
             (weight.has_bias ? HostMemory::counted(vector_bytes(static_cast<uint64_t>(weight.out))) : 0);
    case WeightKind::quantized:
      break;
  }
  return HostMemory::counted(packed_bytes(canonical_shape(weight)));
}

MemoryCount stage_memory(const StageOutline& stage, Precision precision, DType cache_type) {
  MemoryCount count;
  const auto add = [&](uint64_t bytes, MemoryUse use) { count.add(HostMemory::counted(bytes), use); };
  for (const WeightShape& weight : stage.weights) count.add(weight_memory(weight), MemoryUse::weights);
  const StageAllocations needs = stage_allocations(stage, place_values(stage.program, value_bytes), cache_type);
  for (const uint64_t bytes : needs.caches) {
    add(bytes, MemoryUse::kv_cache);  // keys
    add(bytes, MemoryUse::kv_cache);  // values
  }
  for (const uint64_t bytes : needs.states) add(bytes, MemoryUse::states);
  add(needs.token_arena, MemoryUse::buffers);
  add(needs.logit_arena, MemoryUse::buffers);
  add(needs.hidden, MemoryUse::buffers);  // the device is the host
  for (const uint64_t bytes : needs.links) add(bytes, MemoryUse::buffers);
  const StageBuffers buffers = stage_buffers(stage, precision);
  for (const uint64_t bytes : buffers.rope_tables) add(bytes, MemoryUse::buffers);
  add(buffers.scratch, MemoryUse::buffers);
  add(buffers.sampling, MemoryUse::buffers);
  return count;
}

}  // namespace billfish::cpu
