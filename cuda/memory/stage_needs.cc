#include "cuda/memory/stage_needs.h"

#include <algorithm>
#include <variant>

#include "cuda/memory/grouping_layout.h"
#include "engine/backend.h"

namespace billfish::gpu {
namespace {

// What one operator adds to a stage's needs. Those that are not named here need nothing.
template <class Operator>
void add_needs(StageNeeds&, const Operator&, const StageOutline&) {}

// What goes to the host, or comes from there, goes as fp32.
void add_exchanged(StageNeeds& needs, const Value& value, const StageOutline& stage) {
  if (value.kind != ValueClass::activation) return;
  needs.widened_elements = std::max(needs.widened_elements, stage.rows_of(value) * value.width);
}

void add_needs(StageNeeds& needs, const Tap& tap, const StageOutline& stage) {
  add_exchanged(needs, stage.program.values[tap.x], stage);
}

void add_needs(StageNeeds& needs, const Send& send, const StageOutline& stage) {
  add_exchanged(needs, stage.program.values[send.x], stage);
}

void add_needs(StageNeeds& needs, const Receive& receive, const StageOutline& stage) {
  add_exchanged(needs, stage.program.values[receive.out], stage);
}

void add_needs(StageNeeds& needs, const Attention& attention, const StageOutline& stage) {
  const CacheLayer& layer = stage.program.cache_layers[attention.layer];
  const AttentionShape shape{attention.heads, layer.kv_heads, layer.head_dim, attention.window,
                             attention.bidirectional != 0};
  if (std::find(needs.attention.begin(), needs.attention.end(), shape) != needs.attention.end()) return;
  needs.attention.push_back(shape);
  needs.attention_scratch = std::max(needs.attention_scratch, attention_scratch_bytes(shape));
}

void add_needs(StageNeeds& needs, const Linear& linear, const StageOutline& stage) {
  const Value& x = stage.program.values[linear.x];
  const int64_t rows = stage.rows_of(x);
  needs.has_linears = true;
  needs.linear.rows = std::max(needs.linear.rows, rows);
  if (x.kind != ValueClass::activation) needs.narrowed_elements = std::max(needs.narrowed_elements, rows * x.width);
  for (const LinearTarget& target : linear.targets) {
    const WeightShape& weight = stage.weights[target.weight];
    if (weight.kind == WeightKind::quantized) {
      needs.linear.panel_bytes = std::max(needs.linear.panel_bytes, panel_bytes(weight.out, weight.in, rows));
    }
    if (needs_gather(weight.has_group_index, weight.in)) needs.linear.inputs = std::max(needs.linear.inputs, weight.in);
  }
}

void add_needs(StageNeeds& needs, const GroupedLinear& linear, const StageOutline& stage) {
  const Value& routing = stage.program.values[linear.routing];
  const int64_t slots = stage.rows_of(routing) * (routing.width / 2);
  for (const LinearTarget& target : linear.targets) {
    const WeightShape& weight = stage.weights[target.weight];
    needs.grouping_bytes = std::max(needs.grouping_bytes, GroupingLayout(slots, weight.experts).bytes);
    if (weight.has_group_index) needs.gathered_elements = std::max(needs.gathered_elements, slots * weight.in);
  }
}

size_t slab_bytes(const WeightShape& weight) {
  const int64_t groups =
      weight.kind == WeightKind::quantized ? (weight.in + weight.group_size - 1) / weight.group_size : 0;
  const int64_t row = weight.kind == WeightKind::matrix
                          ? weight.in * static_cast<int64_t>(sizeof(float))  // the widest that checkpoints have
                          : weight.in + 4 + groups * 5 + 4;  // codes of 8 bits, fp32 scales, zero points, bias
  return static_cast<size_t>(Backend::row_slab * row);
}

}  // namespace

StageNeeds::StageNeeds(const StageOutline& stage) {
  // A sequence has a row and a block at least, and no block is in two tables.
  batch.max_rows = stage.limits.max_rows;
  batch.max_sequences = std::min(stage.limits.max_rows, stage.limits.block_count);
  batch.max_table_entries = stage.limits.block_count;
  for (const Operator& op : stage.program.operators) {
    std::visit([&](const auto& o) { add_needs(*this, o, stage); }, op);
  }
  if (stage.program.output != no_value) {
    const Value& output = stage.program.values[stage.program.output];
    add_exchanged(*this, output, stage);
    if (stage.program.hands_over) {
      peer_elements = stage.rows_of(output) * output.width;
    } else {
      sampling = {static_cast<int32_t>(output.width), stage.limits.max_logit_rows};
    }
  }
  for (const WeightShape& weight : stage.weights) {
    if (weight.kind != WeightKind::vector) slab_bytes = std::max(slab_bytes, gpu::slab_bytes(weight));
  }
}

StageBuffers::StageBuffers(const StageNeeds& needs, const Program& program)
    : batch(BatchLayout(needs.batch, program.ropes, needs.attention).bytes),
      attention_scratch(needs.attention_scratch),
      linear_workspace(needs.has_linears ? linear_workspace_bytes(needs.linear) : 0),
      grouping(needs.grouping_bytes),
      gathered(static_cast<size_t>(needs.gathered_elements) * sizeof(uint16_t)),
      narrowed(static_cast<size_t>(needs.narrowed_elements) * sizeof(uint16_t)),
      widened(static_cast<size_t>(needs.widened_elements) * sizeof(float)),
      peer(static_cast<size_t>(needs.peer_elements) * sizeof(float)),
      sampling(needs.sampling.max_rows > 0 ? SamplerLayout(needs.sampling).bytes : 0) {}

uint64_t weight_memory(const WeightShape& weight) {
  switch (weight.kind) {
    case WeightKind::vector:
      return counted(vector_bytes(static_cast<uint64_t>(weight.out)));
    case WeightKind::matrix:
      return counted(MatrixLayout(weight.out, weight.in, weight.has_bias).total);
    case WeightKind::quantized:
      break;
  }
  return counted(PackedLayout(canonical_shape(weight)).total);
}

MemoryCount stage_memory(const StageOutline& stage) {
  constexpr DType type = DType::f16;  // as wide as bf16
  MemoryCount count;
  const auto add = [&](uint64_t bytes, MemoryUse use) { count.add(counted(bytes), use); };
  for (const WeightShape& weight : stage.weights) count.add(weight_memory(weight), MemoryUse::weights);
  const auto bytes_of = [](ValueClass kind) { return static_cast<int64_t>(byte_size(value_type(kind, type))); };
  const ValueBytes value_bytes = {bytes_of(ValueClass::activation), bytes_of(ValueClass::residual),
                                  bytes_of(ValueClass::logits)};
  const StageAllocations needs = stage_allocations(stage, place_values(stage.program, value_bytes), type);
  for (const uint64_t bytes : needs.caches) {
    add(bytes, MemoryUse::kv_cache);  // keys
    add(bytes, MemoryUse::kv_cache);  // values
  }
  for (const uint64_t bytes : needs.states) add(bytes, MemoryUse::states);
  const StageBuffers buffers(StageNeeds(stage), stage.program);
  for (const uint64_t bytes :
       {needs.token_arena, needs.logit_arena, uint64_t{buffers.batch}, uint64_t{buffers.attention_scratch},
        uint64_t{buffers.linear_workspace}, uint64_t{buffers.grouping}, uint64_t{buffers.gathered},
        uint64_t{buffers.narrowed}, uint64_t{buffers.widened}, uint64_t{buffers.sampling}}) {
    add(bytes, MemoryUse::buffers);
  }
  for (size_t i = 0; i < peer_buffers; ++i) add(buffers.peer, MemoryUse::buffers);
  return count;
}

}  // namespace billfish::gpu
