// Linears on the device: y[m, n] = sum over k of x[m, k] * w[n, k] (+ bias[n]), by the fused GEMM or by panels.
//
// The panel path: dequantize one panel of outputs at a time to 16 bits, and multiply it with cuBLAS (or with the kernel
// for 16-bit weights, where cuBLAS is missing). It costs memory traffic that the fused kernel does not have, but saves
// converting the codes once per 128 rows, so it pays for many rows. cuda/memory/linear_layout.h cuts them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/linear_layout.h"
#include "gemm/planned_linear.h"
#include "gemm/tiles.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Multiplies one input by `count` weights. Weights of the same kind (bits, groups, zero points, scale type) share a
// launch. x: half or bfloat16, [rows][in] with in that of all weights; rows that begin at multiples of 16 bytes are
// read in place, others (and act-order) are gathered into the workspace, which must then hold them
// (LinearLimits::inputs). Throws INTERNAL naming the numbers if shapes, types or the workspace do not match.
template <class Element>
void linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
            const LinearWorkspace& workspace);

// --- Panels, for tests and for measuring.

using gpu::PanelShape, gpu::max_panel_bytes, gpu::min_panel_rows, gpu::panels_of;

// The expected microseconds of the panel path for all the problem's weights, which have 4 or 8 bits.
double panel_time(const GemmMachine& machine, const GemmProblem& problem, bool library, size_t panel_bytes);

// Whether to use panels: by machine.crossover, else by the tuning's row counts for these shapes, else by comparison
// with the expected time of `fused`. 16-bit weights need no panel: they go to the library if there is one. False if
// impossible, and below min_panel_rows rows.
bool by_panels(const GemmMachine& machine, const GemmProblem& problem, const GemmPlan& fused, bool library,
               size_t panel_bytes);

// As planned_linear(), by panels. The workspace has a panel for these weights, or they have 16 bits and it has a
// library.
template <class Element>
void linear_by_panels(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                      const LinearWorkspace& workspace, const GemmMachine& machine);

// to[r * stride + k] = scale * (code - zero) of output first + r and input k (in the weight's own order of inputs),
// rounded once to Element where scales are 16-bit; columns [in, stride) become zero. `first` is a multiple of 64,
// `stride` that of a 16-bit matrix: `in` rounded up to 64. `to` begins at a multiple of 16 bytes.
template <class Element>
void dequantize_rows(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, Element* to,
                     int64_t stride);

}  // namespace billfish::BILLFISH_TARGET
