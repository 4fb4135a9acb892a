// The panel path: dequantize one panel of outputs at a time to 16 bits, and multiply it with cuBLAS (or with the kernel
// for 16-bit weights, where cuBLAS is missing). It costs memory traffic that the fused kernel does not have, but saves
// converting the codes once per 128 rows, so it pays for many rows. Here: how panels are cut, and from how many rows on
// they are used.
#pragma once
#include <cstddef>
#include <cstdint>

#include "gemm/tiles.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

// Stages that never have this many rows have no panel, and fewer rows never use panels.
constexpr int64_t min_panel_rows = 256;
constexpr size_t max_panel_bytes = size_t{128} << 20;

// The panels of a weight: `rows` outputs each (the last one fewer), of `stride` elements.
struct PanelShape {
  int64_t rows, stride, count;
  size_t bytes() const { return static_cast<size_t>(rows * stride) * sizeof(uint16_t); }
};
// The fewest that fit into `bytes`, of similar height in multiples of 256, or of 64 if 256 rows do not fit; `count` is
// 0 if not even 64 do.
PanelShape panels_of(int64_t out, int64_t in, size_t bytes = max_panel_bytes);

// The expected microseconds of the panel path for all the problem's weights, which have 4 or 8 bits.
double panel_time(const GemmMachine& machine, const GemmProblem& problem, bool library, size_t panel_bytes);

// Whether to use panels: by machine.crossover, else by the tuning's row counts for these shapes, else by comparison
// with the expected time of `fused`. 16-bit weights need no panel: they go to the library if there is one. False if
// impossible, and below min_panel_rows rows.
bool by_panels(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& fused, bool library,
               size_t panel_bytes);

}  // namespace billfish::BILLFISH_TARGET
