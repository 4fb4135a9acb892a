#include "backend/rank_exchange.h"

#include "layer/elementwise.h"
#include "layer/rank_sum.h"

namespace billfish::BILLFISH_TARGET {
namespace {

const RankExchange& exchange_of(const Backend& rank) { return static_cast<const Peer&>(rank).exchange(); }

template <class T>
void copy_columns(Stream& stream, const Tensor& x, const GatheredPiece& piece, const Tensor& out) {
  const Matrix<T> from = matrix_of<T>(x, stream.device()), to = matrix_of<T>(out, stream.device());
  convert<T, T>(stream, Matrix<const T>{from.data + piece.from, from.rows, piece.count, from.stride},
                Matrix<T>{to.data + piece.to, to.rows, piece.count, to.stride});
}

}  // namespace

template <class Element>
void RankExchange::all_reduce(const Peer& self, RankGroup& group, int rank) {
  wait_for(&RankExchange::offered_, self, group.values());
  if (group.values()[static_cast<size_t>(rank)].out.type == DType::f32) {
    sum<float>(self, group, rank);
  } else {
    sum<Element>(self, group, rank);
  }
  stream_.record(read_);
}

template <class Out>
void RankExchange::sum(const Peer& self, RankGroup& group, int rank) {
  const int ranks = group.ranks();
  std::vector<Matrix<const float>> x;
  std::vector<Matrix<Out>> sums;
  for (const RankValue& value : group.values()) {
    x.push_back(matrix_of<float>(value.x, stream_.device()));
    sums.push_back(matrix_of<Out>(value.out, stream_.device()));
  }
  const Matrix<Out>& out = sums[static_cast<size_t>(rank)];
  if (!two_shot_.pays(ranks, out.rows, out.columns, sizeof(Out))) {
    sum_ranks<Out>(stream_, x.data(), ranks, out);
    return;
  }
  sum_share<Out>(stream_, x.data(), ranks, rank, out);
  stream_.record(summed_);
  group.meet();
  wait_for(&RankExchange::summed_, self, group.values());
  gather_shares<Out>(stream_, sums.data(), ranks, rank);
}

template <class Element>
void RankExchange::all_gather(const Peer& self, const std::vector<RankValue>& values, int rank,
                              const std::vector<GatheredPiece>& pieces) {
  wait_for(&RankExchange::offered_, self, values);
  const Tensor& out = values[static_cast<size_t>(rank)].out;
  for (const GatheredPiece& piece : pieces) {
    if (out.data == nullptr) break;
    const Tensor& x = values[static_cast<size_t>(piece.rank)].x;
    if (out.type == DType::f32) {
      copy_columns<float>(stream_, x, piece, out);
    } else {
      copy_columns<Element>(stream_, x, piece, out);
    }
  }
  stream_.record(read_);
}

void RankExchange::withdraw(const Peer& self, const std::vector<Backend*>& ranks) {
  for (const Backend* rank : ranks) {
    if (rank != &self) stream_.wait(exchange_of(*rank).read_);
  }
}

void RankExchange::wait_for(Event RankExchange::*event, const Peer& self, const std::vector<RankValue>& values) {
  for (const RankValue& value : values) {
    if (value.backend != &self) stream_.wait(exchange_of(*value.backend).*event);
  }
}

template void RankExchange::all_reduce<half>(const Peer&, RankGroup&, int);
template void RankExchange::all_reduce<bfloat16>(const Peer&, RankGroup&, int);
template void RankExchange::all_gather<half>(const Peer&, const std::vector<RankValue>&, int,
                                             const std::vector<GatheredPiece>&);
template void RankExchange::all_gather<bfloat16>(const Peer&, const std::vector<RankValue>&, int,
                                                 const std::vector<GatheredPiece>&);

}  // namespace billfish::BILLFISH_TARGET
