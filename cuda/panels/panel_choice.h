// The panel path: dequantize one panel of outputs at a time to 16 bits, and multiply it with cuBLAS (or with the kernel
// for 16-bit weights, where cuBLAS is missing). It costs memory traffic that the fused kernel does not have, but saves
// converting the codes once per 128 rows, so it pays for many rows. Here: from how many
// rows on they are used; cuda/memory/linear_layout.h cuts them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/linear_layout.h"
#include "gemm/tiles.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

using gpu::PanelShape, gpu::max_panel_bytes, gpu::min_panel_rows, gpu::panels_of;

// The expected microseconds of the panel path for all the problem's weights, which have 4 or 8 bits.
double panel_time(const GemmMachine& machine, const GemmProblem& problem, bool library, size_t panel_bytes);

// Whether to use panels: by machine.crossover, else by the tuning's row counts for these shapes, else by comparison
// with the expected time of `fused`. 16-bit weights need no panel: they go to the library if there is one. False if
// impossible, and below min_panel_rows rows.
bool by_panels(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& fused, bool library,
               size_t panel_bytes);

}  // namespace billfish::BILLFISH_TARGET
