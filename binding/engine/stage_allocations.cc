#include "engine/stage_allocations.h"

#include "engine/link.h"
#include "engine/memory_count.h"

namespace billfish {

StageAllocations stage_allocations(const StageOutline& stage, const Places& places, DType cache_type) {
  const Program& program = stage.program;
  const auto rows = static_cast<uint64_t>(stage.limits.max_rows);
  StageAllocations needs;
  needs.token_arena = bytes_product(static_cast<uint64_t>(places.token_bytes), rows);
  needs.logit_arena =
      bytes_product(static_cast<uint64_t>(places.logit_bytes), static_cast<uint64_t>(stage.limits.max_logit_rows));
  for (const CacheLayer& layer : program.cache_layers) {
    const uint64_t position = static_cast<uint64_t>(layer.kv_heads) * static_cast<uint64_t>(layer.head_dim);
    needs.caches.push_back(
        bytes_product(static_cast<uint64_t>(stage.limits.positions()), position * byte_size(cache_type)));
  }
  for (const StateLayer& layer : program.state_layers) {
    needs.states.push_back(bytes_product(static_cast<uint64_t>(stage.limits.max_sequences),
                                         static_cast<uint64_t>(layer.width) * sizeof(float)));
  }
  if (!stage.is_first_rank) return needs;
  if (program.hands_over) {
    needs.hidden_width = program.values[program.output].width;
  } else if (program.input != no_value) {
    needs.hidden_width = program.values[program.input].width;
  }
  needs.hidden = bytes_product(rows, static_cast<uint64_t>(needs.hidden_width) * sizeof(float));
  for (const int64_t width : link_widths(program)) {
    needs.links.push_back(bytes_product(rows, static_cast<uint64_t>(width) * sizeof(float)));
  }
  return needs;
}

}  // namespace billfish
