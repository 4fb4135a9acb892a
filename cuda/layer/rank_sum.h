// All-reduce over peer memory: the sum of the ranks' partial results, each in its own device's memory; one-shot or
// two-shot.
#pragma once
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

constexpr int max_ranks = 8;  // as many GPUs as one machine connects

// out = x[0] + x[1] + ... + x[ranks - 1], added in this order in fp32 and rounded once, so that every rank has the same
// bits. Each x is read where it is: in memory that the stream's device reaches. Out: float, half or bfloat16.
//
// All ranks run it at the same time (a one-shot all-reduce): each reads (ranks - 1) * rows * columns * 4 bytes over its
// link. For the rows of a decode step that costs less than the latency of a second phase.
template <class Out>
void sum_ranks(Stream& stream, const Matrix<const float>* x, int ranks, const Matrix<Out>& out);

// Two-shot: each rank reduces its share of the columns, then gathers the others' shares. It reads (ranks - 1) / ranks
// of the numbers twice, once as fp32 and once as Out, instead of all of them ranks - 1 times.
//
// Shares are columns, not rows, so that they are equal for any number of rows: those from rank * share_columns() on,
// fewer for the last ranks. The sums match one-shot bit for bit.

// A multiple of 8, so that every share can be read 16 bytes at a time.
int64_t share_columns(int64_t columns, int ranks);

// This rank's share of the sum.
template <class Out>
void sum_share(Stream& stream, const Matrix<const float>* x, int ranks, int rank, const Matrix<Out>& out);

// Gathers the other ranks' shares into out = sums[rank], which already has its own.
template <class Out>
void gather_shares(Stream& stream, const Matrix<Out>* sums, int ranks, int rank);

}  // namespace billfish::BILLFISH_TARGET
