#include "gemm/tiles.h"

#include <algorithm>

#include "cuda/memory/grouping_layout.h"
#include "gemm/layout.h"
#include "platform/gemm_tuning.h"

namespace billfish::BILLFISH_TARGET {

// The cost model of a launch, in microseconds and KB. It compares plans on one machine; except for memory and tensor
// cores, machines are alike enough for one set of constants.
namespace {

constexpr double load_rate = 40;     // peak KB per microsecond of one multiprocessor, from memory or L2
constexpr double memory_time = 0.8;  // memory latency
constexpr double issue_rate = 6400;  // warp instructions: four per cycle
constexpr double fill_time = 1.2;    // until the first stage has arrived
constexpr double finish_time = 0.4;  // the epilogue of a tile: sums over warps, stores
constexpr double share_time = 1.6;   // the fix-up: fence, atomic, loads of the other blocks' sums

constexpr double flight_bytes = 64 * 1024;  // bytes of weights that a multiprocessor should have in flight

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The units of the busiest block.
int64_t longest_run(const GemmPlan& plan, int64_t tiles) {
  return plan.whole_tiles ? divide_up(tiles, plan.blocks) * (plan.units / tiles) : divide_up(plan.units, plan.blocks);
}

double expected_time(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& plan, int64_t tiles,
                     int64_t token_tiles) {
  const TileShape& shape = plan.shape;
  const double rows = static_cast<double>(std::min<int64_t>(problem.rows, shape.tokens));
  const double weights = shape.outputs * shape.inputs * problem.bits / 8 / 1024.0;  // of a unit
  const double x = rows * shape.inputs * 2 / 1024.0;
  const double products = static_cast<double>(shape.tokens) * shape.outputs * shape.inputs / 1000.0;

  // The busiest multiprocessor, and memory for all of them: one token tile reads the weights from memory, the others
  // from L2. What is not the bottleneck still costs something.
  const int64_t runs = divide_up(plan.blocks, machine.multiprocessors);
  const double busiest = static_cast<double>(longest_run(plan, tiles) * runs);
  const double flight = weights * (plan.stages - 1.5) * static_cast<double>(runs);  // on average
  const double load = busiest * (weights + x) / std::min(load_rate, flight / memory_time);
  // Instructions, counted in nvcc's code: per warp and stage, and per scale block of 64 outputs by 32 inputs. With a
  // producer warp a stage costs less, and scale blocks are longer.
  const double warp_scale_blocks = shape.outputs * shape.inputs / 2048.0 * std::max(1, shape.tokens / 32);
  const double scale_block_cost = problem.bits == 16 ? 16 : shape.bulk ? 38 : problem.bits == 8 ? 60 : 70;
  const double token_cost = 3.0 * std::min(shape.tokens, 32);
  const double stage = shape.bulk ? 64 : 80;
  const double issue = (shape.threads / 32 * stage + warp_scale_blocks * (scale_block_cost + token_cost)) / issue_rate;
  const double multiply = busiest * std::max(products / machine.product_rate, issue);
  const double memory =
      static_cast<double>(plan.units / token_tiles) * weights / (machine.memory_rate * machine.multiprocessors);
  double time = fill_time + 0.8 * std::max({load, multiply, memory}) + 0.2 * (load + multiply + memory);

  const bool shared = !plan.whole_tiles && plan.blocks != tiles;  // several blocks per tile
  // With a producer warp only the block's last epilogue runs while no loads are in flight.
  const double ends = shape.bulk ? 1 : static_cast<double>(tiles) / plan.blocks;
  time += finish_time * (ends + (shared ? 1 : 0));
  const double partial = rows * shape.outputs * sizeof(float) / 1024.0;
  if (shared) time += share_time + static_cast<double>(runs) * 4 * partial / load_rate;  // two written, two read
  return time;
}

double factor_of(const GemmTuning& tuning, int bits, const TileShape& shape) {
  for (const TileFactor& tile : tuning.tiles) {
    if (tile.bits == bits && tile.tokens == shape.tokens && tile.outputs == shape.outputs &&
        tile.inputs == shape.inputs && tile.bulk == shape.bulk) {
      return tile.factor;
    }
  }
  return 1;
}

}  // namespace

GemmMachine machine_of(int compute_capability, int code_architecture, int multiprocessors,
                       uint32_t shared_bytes_per_block, uint32_t shared_bytes_per_multiprocessor) {
  GemmMachine machine = {multiprocessors, 10, 600, shared_bytes_per_block, shared_bytes_per_multiprocessor};  // RTX 50
  if (code_architecture >= 90) machine.kernels = GemmKernels::both;
  if (compute_capability < 90) machine.memory_rate = 8;                                      // RTX 30, L4, RTX 40
  if (compute_capability == 80) machine.memory_rate = 18, machine.product_rate = 1450;       // A100
  if (compute_capability / 10 == 9) machine.memory_rate = 30, machine.product_rate = 2200;   // H100 25, H200 36
  if (compute_capability / 10 == 10) machine.memory_rate = 54, machine.product_rate = 2200;  // B200
  // Libraries reach about 85 % of the tensor cores' peak, on sm_90 and later with faster instructions than mma.sync.
  machine.library_rate = 0.85 * machine.product_rate;
  if (compute_capability / 10 == 9) machine.library_rate = 2650;
  if (compute_capability / 10 == 10) machine.library_rate = 5500;
  return machine;
}

int tile_count(int bits) { return bits == 16 ? ElementTiles::count : QuantizedTiles::count + BulkTiles<4>::count; }

const TileShape& tile_shape(int bits, int tile) {
  if (bits == 16) return ElementTiles::shapes[tile];
  if (tile < QuantizedTiles::count) return QuantizedTiles::shapes[tile];
  const int bulk_tile = tile - QuantizedTiles::count;
  return bits == 4 ? BulkTiles<4>::shapes[bulk_tile] : BulkTiles<8>::shapes[bulk_tile];
}

const TileShape& grouped_tile_shape(int bits, int tile) {
  return bits == 16 ? GroupedTiles<16>::shapes[tile] : GroupedTiles<4>::shapes[tile];  // 8 bits have the same
}

// A tile's shared memory: per stage, and outside the stages.
static uint32_t bytes_of_stage(const TileShape& shape, const GemmProblem& problem) {
  if (!shape.bulk) {
    return stage_bytes(shape.tokens, shape.outputs, shape.inputs, problem.bits, problem.scale_bytes,
                       problem.zero_points);
  }
  const auto rows = static_cast<int>(std::min<int64_t>(problem.rows, shape.tokens));
  return bulk_stage_bytes(rows, shape.outputs, shape.inputs, problem.bits, problem.scale_bytes, problem.zero_points);
}
static uint32_t bytes_beside_stages(const TileShape& shape) {
  return shape.bulk ? bulk_stages_begin(shape.threads) : exchange_bytes(shape.threads);
}

// Sets the stages of the plan's tile and their memory; 0 stages if not even two fit.
static void plan_stages(const GemmMachine& machine, const GemmProblem& problem, GemmPlan& plan) {
  const TileShape& shape = plan.shape;
  plan.stage_bytes = bytes_of_stage(shape, problem);
  const uint32_t beside = bytes_beside_stages(shape);
  constexpr uint32_t reserved = 1024;  // of each block, by the system
  const uint32_t room =
      std::min(machine.shared_bytes_per_block, machine.shared_bytes_per_multiprocessor / shape.resident - reserved);
  const double weights = shape.outputs * shape.inputs * problem.bits / 8.0;
  const int wanted = shape.bulk ? max_stages : 1 + static_cast<int>(flight_bytes / (weights * shape.resident) + 0.999);
  const int fitting = room < beside ? 0 : static_cast<int>((room - beside) / plan.stage_bytes);
  plan.stages = std::min({std::max(wanted, 4), fitting, max_stages});
  if (plan.stages < 2) plan.stages = 0;
  plan.shared_bytes = beside + static_cast<uint32_t>(plan.stages) * plan.stage_bytes;
}

GemmPlan plan_grouped(const GemmMachine& machine, const GemmProblem& problem, int64_t experts) {
  // Half as many rows again as an expert has on average: busy ones take a tile, too, and no other reads the weights
  // again.
  const int64_t active = std::min(problem.rows, experts);
  const int64_t rows = active == 0 ? 0 : divide_up(3 * problem.rows, 2 * active);
  GemmPlan plan = {};
  for (int tile = 0; tile < grouped_tile_count; ++tile) {
    GemmPlan next = {};
    next.tile = tile;
    next.shape = grouped_tile_shape(problem.bits, tile);
    plan_stages(machine, problem, next);
    if (next.stages == 0) continue;
    plan = next;
    if (rows <= plan.shape.tokens) break;
  }
  plan.blocks = static_cast<uint32_t>(gpu::max_token_tiles(problem.rows, experts, plan.shape.tokens));
  return plan;
}

GemmPlan plan_tile(const GemmMachine& machine, const GemmProblem& problem, int tile, int64_t blocks, bool whole_tiles) {
  GemmPlan plan = {};
  plan.whole_tiles = whole_tiles;
  plan.tile = tile;
  plan.shape = tile_shape(problem.bits, tile);
  const TileShape& shape = plan.shape;
  if (shape.bulk && (machine.kernels == GemmKernels::staged || problem.inputs % padded_inputs != 0)) return plan;

  plan_stages(machine, problem, plan);
  if (plan.stages == 0) return plan;

  int64_t columns = 0;
  for (int i = 0; i < problem.count; ++i) columns += divide_up(problem.outputs[i], shape.outputs);
  const int64_t token_tiles = divide_up(problem.rows, shape.tokens), tiles = columns * token_tiles;
  plan.units = tiles * divide_up(problem.inputs, shape.inputs);
  const auto places = static_cast<int64_t>(partial_bytes / (2 * sizeof(float) * shape.tokens * shape.outputs));
  const int64_t most = whole_tiles ? tiles : std::min(plan.units, places);
  plan.blocks = static_cast<uint32_t>(std::clamp<int64_t>(blocks, 1, std::min(most, int64_t{max_blocks})));
  plan.microseconds = expected_time(machine, problem, plan, tiles, token_tiles);
  if (machine.tuning != nullptr) plan.microseconds *= factor_of(*machine.tuning, problem.bits, shape);
  return plan;
}

GemmPlan best_plan_of_tile(const GemmMachine& machine, const GemmProblem& problem, int tile) {
  GemmPlan best = {};
  auto consider = [&](int64_t blocks, bool whole_tiles) {
    const GemmPlan plan = plan_tile(machine, problem, tile, blocks, whole_tiles);
    if (plan.stages == 0 || plan.blocks > static_cast<uint32_t>(machine.multiprocessors * plan.shape.resident)) return;
    if (best.stages == 0 || plan.microseconds < best.microseconds) best = plan;
  };
  const TileShape& shape = tile_shape(problem.bits, tile);
  const int64_t room = int64_t{machine.multiprocessors} * shape.resident;
  int64_t tiles = 0;
  for (int i = 0; i < problem.count; ++i) tiles += divide_up(problem.outputs[i], shape.outputs);
  tiles *= divide_up(problem.rows, shape.tokens);
  for (const int64_t blocks : {room, int64_t{machine.multiprocessors}}) {
    consider(blocks, false);
    consider(blocks, true);
  }
  for (int64_t even = 2 * tiles; even <= room; even += tiles) consider(even, false);  // ending with tiles
  return best;
}

GemmPlan plan_gemm(const GemmMachine& machine, const GemmProblem& problem) {
  GemmPlan best = {};
  for (int tile = 0; tile < tile_count(problem.bits); ++tile) {
    const GemmPlan plan = best_plan_of_tile(machine, problem, tile);
    if (plan.stages == 0) continue;
    const bool wanted = machine.kernels == GemmKernels::bulk_first && plan.shape.bulk && !best.shape.bulk;
    if (best.stages == 0 || wanted || plan.microseconds < best.microseconds) best = plan;
  }
  return best;
}

}  // namespace billfish::BILLFISH_TARGET
