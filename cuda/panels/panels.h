// Linears by panels (panel_choice.h): dequantize into the workspace, multiply there.
#pragma once
#include "gemm/linear.h"
#include "gemm/tiles.h"

namespace billfish::BILLFISH_TARGET {

// As planned_linear(). The workspace has a panel for these weights, or they have 16 bits and it has a library.
template <class Element>
void linear_by_panels(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                      const LinearWorkspace& workspace, const GemmMachine& machine);

}  // namespace billfish::BILLFISH_TARGET
