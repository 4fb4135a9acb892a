// The other way to multiply: weights are made into 16-bit numbers first, a panel of outputs after the other, and each
// panel is multiplied by the machine's library (or by the kernel for 16-bit weights, where there is none). It reads
// and writes memory that the fused kernel does not, and spares it the conversion of codes for every 128 rows: right for
// many rows. This says how panels are cut, and from how many rows on they are worth it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "gemm/tiles.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

// Stages that never have so many rows have no panel; with fewer rows panels are never tried.
constexpr int64_t min_panel_rows = 256;
constexpr size_t max_panel_bytes = size_t{128} << 20;

// The panels of a weight: `rows` outputs each (the last one fewer), of `stride` elements.
struct PanelShape {
  int64_t rows, stride, count;
  size_t bytes() const { return static_cast<size_t>(rows * stride) * sizeof(uint16_t); }
};
// As few as fit into so many bytes, of even heights in multiples of 256, or of 64 where 256 rows do not fit; `count` is
// 0 where not even 64 do.
PanelShape panels_of(int64_t out, int64_t in, size_t bytes = max_panel_bytes);

// Microseconds that panels are expected to take, for all the problem's weights, which have 4 or 8 bits.
double panel_time(const GemmMachine& machine, const GemmProblem& problem, bool library, size_t panel_bytes);

// Whether to multiply so: told by machine.crossover, else by the tuning's row counts for these shapes, else by what is
// expected of `fused`. Weights of 16 bits need no panel: they go to the library where there is one. False where it
// cannot be, and with fewer than min_panel_rows rows.
bool by_panels(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& fused, bool library,
               size_t panel_bytes);

}  // namespace billfish::BILLFISH_TARGET
