// The fused path: y[m, n] = sum over k of x[m, k] * w[n, k] (+ bias[n]) in one launch, by an explicit plan.
//
// Products are exact in fp32: codes minus zero points are integers that half and bfloat16 hold, tensor cores add their
// products with x in fp32, and a group's scale multiplies the fp32 sum. The only roundings are those of fp32 sums, and
// of y unless it is float. Results are the same in every run on the same kind of device with the same rows.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/linear_layout.h"
#include "gemm/launch.h"
#include "gemm/linear_weight.h"
#include "gemm/tiles.h"
#include "layer/tensor.h"
#include "primitives/numbers.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class MatrixLibrary;
using gpu::LinearLimits, gpu::linear_workspace_bytes, gpu::panel_bytes;

// Scratch of the linears of one stream, which run one after another. `data` is zeroed before the first use, and never
// again.
struct LinearWorkspace {
  void* data = nullptr;
  size_t bytes = 0;
  size_t panel_bytes = 0;                // the last of these bytes, for weights that are dequantized first
  MatrixLibrary* library = nullptr;      // if there is one, opened with library_workspace()
  const GemmMachine* machine = nullptr;  // the machine to plan for; null: the stream's device, untuned
};
// The part of the workspace that the library uses, shared with the GEMM's partial sums.
void* library_workspace(const LinearWorkspace& workspace);

// out is [rows of x][weight.out] with rows `stride` apart; type f32 or that of x.
struct LinearCall {
  const LinearWeight* weight = nullptr;
  void* out = nullptr;
  int64_t stride = 0;
  DType type = DType::f16;
};

// The argument of plan_gemm() for `count` calls on x of `rows` rows. `outputs` has room for `count` and must outlive
// the problem.
GemmProblem problem_of(const LinearCall* calls, int count, int64_t rows, int64_t* outputs);
GemmMachine machine_of(const Device& device);

// What kernels take, all but the workspace. Weights of the same kind, x readable in place.
template <class Element>
GemmArguments gemm_arguments(const LinearCall* calls, int count, const Matrix<const Element>& x, const GemmPlan& plan);

// Weights of the same kind, x readable in place, at most 8192 rows.
template <class Element>
void planned_linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                    const LinearWorkspace& workspace, const GemmPlan& plan);

}  // namespace billfish::BILLFISH_TARGET
