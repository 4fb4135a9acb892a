#include "layer/rank_sum.h"

#include <algorithm>

#include "engine/error.h"
#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

template <class Out>
struct SumRanks {
  Global<const float> x[max_ranks];
  int64_t x_stride[max_ranks];
  Global<Out> out;
  int64_t out_stride;
  int32_t ranks;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float sums[count];
    load_floats<count, float>(x[0] + (row * x_stride[0] + column), sums);
    for (int rank = 1; rank < ranks; ++rank) {
      float values[count];
      load_floats<count, float>(x[rank] + (row * x_stride[rank] + column), values);
      UNROLL for (int i = 0; i < count; ++i) sums[i] += values[i];
    }
    UNROLL for (int i = 0; i < count; ++i) sums[i] = saturated<Out>(sums[i]);
    store_floats<count, Out>(out + (row * out_stride + column), sums);
  }
};

template <class Out>
struct GatherShares {
  Global<const Out> sums[max_ranks];
  int64_t stride[max_ranks];
  Global<Out> out;
  uint32_t share;  // columns
  uint32_t rank;   // the rank whose share is already there

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const uint32_t owner = static_cast<uint32_t>(column) / share;
    if (owner == rank) return;
    const Global<const Out> from = sums[owner] + (row * stride[owner] + column);
    const Global<Out> to = out + (row * stride[rank] + column);
    if constexpr (count == 1) {
      to[0] = Out(from[0]);
    } else {
      constexpr int words = count * static_cast<int>(sizeof(Out)) / 4;
      uint32_t bits[words];
      load_words<words, 4>(from, bits);
      store_words<words, 4>(to, bits);
    }
  }
};

void refuse_too_many(int ranks) {
  if (ranks <= max_ranks) return;
  throw Error("INVALID_OPTION",
              std::to_string(ranks) + " ranks a stage, where " + std::to_string(max_ranks) + " are possible on GPUs.");
}

}  // namespace

template <class Out>
void sum_ranks(Stream& stream, const Matrix<const float>* x, int ranks, const Matrix<Out>& out) {
  refuse_too_many(ranks);
  SumRanks<Out> sum{};
  sum.out = out.data;
  sum.out_stride = out.stride;
  sum.ranks = ranks;
  bool in_wide_vectors = is_wide(out);
  for (int rank = 0; rank < ranks; ++rank) {
    sum.x[rank] = x[rank].data;
    sum.x_stride[rank] = x[rank].stride;
    in_wide_vectors = in_wide_vectors && is_wide(x[rank]);
  }
  for_each_vector(stream, out.rows, out.columns, in_wide_vectors, sum);
}

int64_t share_columns(int64_t columns, int ranks) {
  const int64_t unit = int64_t{wide} * ranks;
  return (columns + unit - 1) / unit * wide;
}

template <class Out>
void sum_share(Stream& stream, const Matrix<const float>* x, int ranks, int rank, const Matrix<Out>& out) {
  refuse_too_many(ranks);
  const int64_t share = share_columns(out.columns, ranks), first = std::min(rank * share, out.columns);
  const int64_t columns = std::min(share, out.columns - first);
  Matrix<const float> parts[max_ranks];
  for (int i = 0; i < ranks; ++i) parts[i] = {x[i].data + first, x[i].rows, columns, x[i].stride};
  sum_ranks(stream, parts, ranks, Matrix<Out>{out.data + first, out.rows, columns, out.stride});
}

template <class Out>
void gather_shares(Stream& stream, const Matrix<Out>* sums, int ranks, int rank) {
  refuse_too_many(ranks);
  const Matrix<Out>& out = sums[rank];
  GatherShares<Out> gather{};
  gather.out = out.data;
  gather.share = static_cast<uint32_t>(share_columns(out.columns, ranks));
  gather.rank = static_cast<uint32_t>(rank);
  bool in_wide_vectors = true;
  for (int i = 0; i < ranks; ++i) {
    gather.sums[i] = sums[i].data;
    gather.stride[i] = sums[i].stride;
    in_wide_vectors = in_wide_vectors && is_wide(sums[i]);
  }
  for_each_vector(stream, out.rows, out.columns, in_wide_vectors, gather);
}

#define BILLFISH_RANK_SUM(Out)                                                                \
  template void sum_ranks(Stream&, const Matrix<const float>*, int, const Matrix<Out>&);      \
  template void sum_share(Stream&, const Matrix<const float>*, int, int, const Matrix<Out>&); \
  template void gather_shares(Stream&, const Matrix<Out>*, int, int);
BILLFISH_RANK_SUM(float)
BILLFISH_RANK_SUM(half)
BILLFISH_RANK_SUM(bfloat16)
#undef BILLFISH_RANK_SUM

}  // namespace billfish::BILLFISH_TARGET
