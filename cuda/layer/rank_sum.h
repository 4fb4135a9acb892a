// The sum of what the ranks of a stage have, each in its own device's memory: at once, or in two shots.
#pragma once
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

constexpr int max_ranks = 8;  // as many as a machine has GPUs that reach each other

// out = x[0] + x[1] + ... + x[ranks - 1], added in this order in fp32 and rounded once, so that every rank has the same
// bits. Each x is read where it is: in memory that the stream's device reaches. Out: float, half or bfloat16.
//
// All ranks run it at the same time (a one-shot all-reduce): each reads (ranks - 1) * rows * columns * 4 bytes over its
// link. For the rows of a decoding step that is less than the latency of a second phase.
template <class Out>
void sum_ranks(Stream& stream, const Matrix<const float>* x, int ranks, const Matrix<Out>& out);

// In two shots: each rank sums its share of the columns alone, and then takes the others' sums from them. It reads
// (ranks - 1) / ranks of the numbers twice, once as fp32 and once as Out, instead of ranks - 1 times all of them.
//
// Shares are columns, not rows, so that they are even for any number of rows: those from rank * share_columns() on,
// fewer for the last ranks where the columns run out. The sums are bit for bit those of one shot.

// A multiple of 8, so that shares begin where rows may be read 16 bytes at a time.
int64_t share_columns(int64_t columns, int ranks);

// This rank's share of the sum.
template <class Out>
void sum_share(Stream& stream, const Matrix<const float>* x, int ranks, int rank, const Matrix<Out>& out);

// The other ranks' shares of the sum, from where they have them: out = sums[rank] itself, already with its own share.
template <class Out>
void gather_shares(Stream& stream, const Matrix<Out>* sums, int ranks, int rank);

}  // namespace billfish::BILLFISH_TARGET
