// linear() with a plan of one's own: for tests that want every tile, and for measuring plans against each other.
#pragma once
#include "gemm/linear.h"
#include "gemm/tiles.h"

namespace billfish::BILLFISH_TARGET {

// What plan_gemm() is asked for `count` calls on x of so many rows. `outputs` has room for as many and must outlive the
// problem.
GemmProblem problem_of(const LinearCall* calls, int count, int64_t rows, int64_t* outputs);
GemmMachine machine_of(const Device& device);

// Weights of one kind, x readable in place, at most 8192 rows: one launch.
template <class Element>
void planned_linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                    const LinearWorkspace& workspace, const GemmPlan& plan);

}  // namespace billfish::BILLFISH_TARGET
