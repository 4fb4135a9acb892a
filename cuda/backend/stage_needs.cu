#include "backend/stage_needs.h"

#include <algorithm>
#include <variant>

#include "engine/backend.h"

namespace billfish::BILLFISH_TARGET {

static size_t slab_bytes(const WeightShape& weight) {
  const int64_t groups =
      weight.kind == WeightKind::quantized ? (weight.in + weight.group_size - 1) / weight.group_size : 0;
  const int64_t row = weight.kind == WeightKind::matrix
                          ? weight.in * static_cast<int64_t>(sizeof(float))  // the widest type in checkpoints
                          : weight.in + 4 + groups * 5 + 4;  // codes of 8 bits, fp32 scales, zero points, bias
  return static_cast<size_t>(Backend::row_slab * row);
}

StageNeeds::StageNeeds(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits) {
  // A sequence has at least one row and one block, and no block is in two tables.
  batch.max_rows = limits.max_rows;
  batch.max_sequences = std::min(limits.max_rows, limits.block_count);
  batch.max_table_entries = limits.block_count;

  const auto rows_of = [&](const Value& value) -> int64_t {
    return value.rows == RowKind::tokens ? limits.max_rows : limits.max_logit_rows;
  };
  // Values go to the host as fp32.
  const auto leaves_device = [&](const Value& value) {
    if (value.kind != ValueClass::activation) return;
    widened_elements = std::max(widened_elements, rows_of(value) * value.width);
  };
  for (const Operator& op : program.operators) {
    if (const auto* tap = std::get_if<Tap>(&op)) {
      leaves_device(program.values[tap->x]);
    } else if (const auto* call = std::get_if<Attention>(&op)) {
      const CacheLayer& layer = program.cache_layers[call->layer];
      const AttentionShape shape{call->heads, layer.kv_heads, layer.head_dim, call->window};
      if (std::find(attention.begin(), attention.end(), shape) != attention.end()) continue;
      attention.push_back(shape);
      attention_scratch = std::max(attention_scratch, attention_scratch_bytes(shape));
    } else if (const auto* call = std::get_if<Linear>(&op)) {
      const Value& x = program.values[call->x];
      has_linears = true;
      linear.rows = std::max(linear.rows, rows_of(x));
      if (x.kind != ValueClass::activation) narrowed_elements = std::max(narrowed_elements, rows_of(x) * x.width);
      for (const LinearTarget& target : call->targets) {
        const WeightShape& weight = weights[target.weight];
        if (weight.kind == WeightKind::quantized) {
          linear.panel_bytes = std::max(linear.panel_bytes, panel_bytes(weight.out, weight.in, rows_of(x)));
        }
        if (weight.has_group_index || weight.in % 8 != 0) linear.inputs = std::max(linear.inputs, weight.in);
      }
    }
  }
  const Value& output = program.values[program.output];
  leaves_device(output);
  if (output.rows == RowKind::tokens) peer_elements = rows_of(output) * output.width;
  if (output.rows == RowKind::logits) sampling = {static_cast<int32_t>(output.width), limits.max_logit_rows};
  for (const WeightShape& weight : weights) {
    if (weight.kind != WeightKind::vector) slab_bytes = std::max(slab_bytes, BILLFISH_TARGET::slab_bytes(weight));
  }
}

}  // namespace billfish::BILLFISH_TARGET
