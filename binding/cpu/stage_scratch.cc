#include "cpu/stage_scratch.h"

#include <algorithm>

#include "cpu/operators.h"

namespace billfish::cpu {
namespace {

size_t linear_bytes(const WeightShape& weight, int64_t rows, Precision precision) {
  Matrix matrix;
  QuantizedLinear quantized;
  LinearCall call;
  if (weight.kind == WeightKind::quantized) {
    quantized.in = weight.in;
    quantized.group_size = weight.group_size;
    call.quantized = &quantized;
  } else {
    matrix.in = weight.in;
    call.matrix = &matrix;
  }
  return linear_scratch_bytes(call, rows, precision);
}

}  // namespace

size_t stage_scratch_bytes(const Program& program, const std::vector<WeightShape>& weights, const StageLimits& limits,
                           Precision precision) {
  size_t most = 0;
  const auto need = [&](size_t bytes) { most = std::max(most, bytes); };
  for (const RopeSpec& rope : program.ropes) need(scratch_piece(rope.inverse_frequency.size() * sizeof(float)));
  for (const Operator& op : program.operators) {
    if (const auto* linear = std::get_if<Linear>(&op)) {
      const bool tokens = program.values[linear->x].rows == RowKind::tokens;
      const int64_t rows = tokens ? limits.max_rows : limits.max_logit_rows;
      for (const LinearTarget& target : linear->targets) need(linear_bytes(weights[target.weight], rows, precision));
    } else if (const auto* attention = std::get_if<billfish::Attention>(&op)) {
      const CacheLayer& layer = program.cache_layers[attention->layer];
      need(attention_scratch_bytes(attention->heads, layer.kv_heads, layer.head_dim, limits.max_rows,
                                   limits.positions()));
    }
  }
  return most;
}

}  // namespace billfish::cpu
