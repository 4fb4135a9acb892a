#include "layer/rank_sum.h"

#include "engine/error.h"
#include "layer/for_each_vector.h"

namespace billfish::BILLFISH_TARGET {
namespace {

template <class Out>
struct SumRanks {
  Global<const float> x[most_ranks];
  int64_t x_stride[most_ranks];
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

}  // namespace

template <class Out>
void sum_ranks(Stream& stream, const Matrix<const float>* x, int ranks, const Matrix<Out>& out) {
  if (ranks > most_ranks) {
    throw Error("INVALID_OPTION", std::to_string(ranks) + " ranks a stage, where " + std::to_string(most_ranks) +
                                      " are possible on GPUs.");
  }
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

template void sum_ranks(Stream&, const Matrix<const float>*, int, const Matrix<float>&);
template void sum_ranks(Stream&, const Matrix<const float>*, int, const Matrix<half>&);
template void sum_ranks(Stream&, const Matrix<const float>*, int, const Matrix<bfloat16>&);

}  // namespace billfish::BILLFISH_TARGET
