// linear() with an explicit plan: for tests that cover every tile, and for measuring plans against each other.
#pragma once
#include "gemm/linear.h"
#include "gemm/tiles.h"

namespace billfish::BILLFISH_TARGET {

// The argument of plan_gemm() for `count` calls on x of `rows` rows. `outputs` has room for `count` and must outlive
// the problem.
GemmProblem problem_of(const LinearCall* calls, int count, int64_t rows, int64_t* outputs);
GemmMachine machine_of(const Device& device);

// One launch: weights of the same kind, x readable in place, at most 8192 rows.
template <class Element>
void planned_linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                    const LinearWorkspace& workspace, const GemmPlan& plan);

}  // namespace billfish::BILLFISH_TARGET
