// The linears of experts: y[slot, n] = sum over k of x[slot, k] * w[expert of the slot][n, k] (+ bias), in a launch for
// all experts and one that sorts the slots. Nothing waits for the host, so a step can be recorded.
#pragma once
#include <cstdint>

#include "cuda/memory/grouping_layout.h"
#include "gemm/planned_linear.h"

namespace billfish::BILLFISH_TARGET {

// Weights on the same x, of the same kind and experts (engine/operands.h, WeightShape). A call's `out` has a row a
// token, in which the token's slots are beside each other.
struct GroupedCall {
  LinearCall linear;
  int64_t outputs = 0;  // of an expert
};

// x has a row a token: of the inputs of its slots beside each other, or of those that all of them share. `routing`:
// what Route gives. `memory`: GroupingLayout's. `gathered`: room for the inputs of all slots beside each other, where a
// weight has orders.
template <class Element>
void grouped_linear(Stream& stream, const GroupedCall* calls, int count, const Matrix<const Element>& x,
                    const Matrix<const float>& routing, int32_t first, void* memory, Element* gathered,
                    const GemmMachine& machine);

}  // namespace billfish::BILLFISH_TARGET
