#include "panels/linear.h"

#include <algorithm>
#include <tuple>

#include "gemm/layout.h"
#include "platform/gemm_tuning.h"
#include "primitives/math.h"

namespace billfish::BILLFISH_TARGET {

// The model, in microseconds and KB, with the assumptions of tiles.cu. None of it was measured.
namespace {

constexpr double launch_time = 3;  // of a kernel that nothing overlaps

// tiles.cu assumes fully busy tensor cores, which does not matter between plans. Compared with a library it does: this
// is the fraction that kernels reach.
constexpr double sustained = 0.85;

double memory_time(const GemmMachine& machine, double bytes) {
  return bytes / 1024 / (machine.memory_rate * machine.multiprocessors);
}

// Libraries have many tiles: large ones come nearer to the tensor cores' rate, small ones leave fewer multiprocessors
// without work. On average half a wave is lost at the end.
double library_time(const GemmMachine& machine, int64_t rows, int64_t out, int64_t in) {
  double best = 0;
  for (const auto& [tile_rows, tile_outputs, efficiency] :
       {std::tuple<int64_t, int64_t, double>{128, 256, 1.0}, {128, 128, 0.85}, {64, 128, 0.6}}) {
    const auto tiles = static_cast<double>(ceil_div(rows, tile_rows) * ceil_div(out, tile_outputs));
    const double waves = std::max(1.0, tiles / machine.multiprocessors + 0.5);
    const double products = static_cast<double>(tile_rows * tile_outputs * in) / 1000;
    const double time = waves * products / (machine.library_rate * efficiency);
    if (best == 0 || time < best) best = time;
  }
  const double bytes = 2.0 * (static_cast<double>(out * in) + static_cast<double>(rows * (in + out)));
  return launch_time + std::max(best, memory_time(machine, bytes));
}

double product_time(const GemmMachine& machine, int64_t rows, int64_t out, int64_t in, bool library) {
  if (library) return library_time(machine, rows, out, in);
  GemmMachine untuned = machine;
  untuned.tuning = nullptr;  // panel_factor is relative to the whole panel path
  return launch_time + plan_gemm(untuned, {16, 0, false, rows, in, &out, 1}).microseconds / sustained;
}

// What the tuning says of this shape; 0 if nothing.
int64_t measured_crossover(const GemmMachine& machine, int bits, int64_t out, int64_t in) {
  if (machine.tuning == nullptr) return 0;
  for (const Crossover& crossover : machine.tuning->crossovers) {
    if (crossover.bits == bits && crossover.out == out && crossover.in == in) return crossover.rows;
  }
  return 0;
}

bool has_factors(const GemmMachine& machine, int bits) {
  return machine.tuning != nullptr && std::any_of(machine.tuning->tiles.begin(), machine.tuning->tiles.end(),
                                                  [&](const TileFactor& tile) { return tile.bits == bits; });
}

}  // namespace

double panel_time(const GemmMachine& machine, const GemmProblem& problem, bool library, size_t panel_bytes) {
  double time = 0;
  for (int i = 0; i < problem.count; ++i) {
    const int64_t out = problem.outputs[i];
    const PanelShape panels = panels_of(out, problem.inputs, panel_bytes);
    const double bytes = static_cast<double>(out * panels.stride) * (2 + problem.bits / 8.0);
    const int64_t last = out - (panels.count - 1) * panels.rows;
    time += static_cast<double>(panels.count) * launch_time + memory_time(machine, bytes) +
            product_time(machine, problem.rows, last, problem.inputs, library);
    if (panels.count > 1) {
      time += static_cast<double>(panels.count - 1) *
              product_time(machine, problem.rows, panels.rows, problem.inputs, library);
    }
  }
  return machine.tuning == nullptr ? time : time * machine.tuning->panel_factor;
}

bool by_panels(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& fused, bool library,
               size_t panel_bytes) {
  if (problem.rows < min_panel_rows) return false;
  if (problem.bits == 16 ? !library : panel_bytes == 0) return false;
  if (machine.crossover != 0) return problem.rows >= machine.crossover;
  int measured = 0, wanted = 0;
  for (int i = 0; i < problem.count; ++i) {
    const int64_t rows = measured_crossover(machine, problem.bits, problem.outputs[i], problem.inputs);
    measured += rows != 0;
    wanted += rows != 0 && problem.rows >= rows;
  }
  // Weights on one input share a launch, so the majority decides for all.
  if (measured == problem.count) return 2 * wanted > problem.count;
  if (problem.bits == 16) return true;
  const double reached = has_factors(machine, problem.bits) ? 1 : sustained;
  return panel_time(machine, problem, library, panel_bytes) < fused.microseconds / reached;
}

}  // namespace billfish::BILLFISH_TARGET
