// The sum of what the ranks of a stage have, each in its own device's memory.
#pragma once
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

constexpr int most_ranks = 8;  // as many as a machine has GPUs that reach each other

// out = x[0] + x[1] + ... + x[ranks - 1], added in this order in fp32 and rounded once, so that every rank has the same
// bits. Each x is read where it is: in memory that the stream's device reaches. Out: float, half or bfloat16.
//
// All ranks run it at the same time (a one-shot all-reduce): each reads (ranks - 1) * rows * columns * 4 bytes over its
// link. For the rows of a decoding step that is less than the latency of a second phase.
template <class Out>
void sum_ranks(Stream& stream, const Matrix<const float>* x, int ranks, const Matrix<Out>& out);

}  // namespace billfish::BILLFISH_TARGET
