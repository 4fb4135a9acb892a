#include "marlin/tiles.h"

#include <algorithm>

namespace billfish::BILLFISH_TARGET {

static int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

GemmPlan plan_gemm(const GemmMachine& machine, const GemmProblem& problem) {
  const bool quantised = problem.bits != 16;
  const TileShape* shapes = quantised ? QuantisedTiles::shapes : ElementTiles::shapes;
  const int count = quantised ? QuantisedTiles::count : ElementTiles::count;
  GemmPlan plan = {};
  while (plan.tile + 1 < count && shapes[plan.tile].tokens < problem.rows) ++plan.tile;
  plan.shape = shapes[plan.tile];

  const uint32_t exchange = exchange_bytes(plan.shape.threads);
  plan.stage_bytes = stage_bytes(plan.shape.tokens, plan.shape.outputs, plan.shape.inputs, problem.bits,
                                 problem.scale_bytes, problem.zero_points);
  constexpr uint32_t reserved = 1024;  // of each block, by the system
  const uint32_t room = std::min(machine.shared_bytes_per_block,
                                 machine.shared_bytes_per_multiprocessor / plan.shape.resident - reserved);
  plan.stages = std::clamp<int>((room - exchange) / plan.stage_bytes, 2, most_stages);
  plan.shared_bytes = exchange + plan.stages * plan.stage_bytes;

  int64_t columns = 0;
  for (int i = 0; i < problem.count; ++i) columns += divide_up(problem.outputs[i], plan.shape.outputs);
  const int64_t units =
      columns * divide_up(problem.rows, plan.shape.tokens) * divide_up(problem.inputs, plan.shape.inputs);
  const auto partial_blocks = partial_bytes / (2 * sizeof(float) * plan.shape.tokens * plan.shape.outputs);
  plan.blocks = static_cast<uint32_t>(std::min<int64_t>({units, int64_t{machine.multiprocessors} * plan.shape.resident,
                                                         most_blocks, static_cast<int64_t>(partial_blocks)}));
  return plan;
}

}  // namespace billfish::BILLFISH_TARGET
