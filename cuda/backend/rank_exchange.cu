#include "backend/rank_exchange.h"

#include "backend/communicators.h"
#include "layer/convert.h"
#include "layer/matrix_of.h"
#include "layer/rank_sum.h"

namespace billfish::BILLFISH_TARGET {
namespace {

const RankExchange& exchange_of(const Backend& rank) { return static_cast<const Peer&>(rank).exchange(); }

// Null: the ranks use each other's memory.
Communicators* communicators_of(const RankGroup& group) { return static_cast<Communicators*>(group.link()); }

template <class T>
void copy_columns(Stream& stream, const Tensor& x, const GatheredPiece& piece, const Tensor& out) {
  const Matrix<T> from = matrix_of<T>(x, stream.device()), to = matrix_of<T>(out, stream.device());
  convert<T, T>(stream, Matrix<const T>{from.data + piece.from, from.rows, piece.count, from.stride},
                Matrix<T>{to.data + piece.to, to.rows, piece.count, to.stride});
}

}  // namespace

template <class Element>
void RankExchange::all_reduce(const Peer& self, RankGroup& group, int rank) {
  if (group.values()[static_cast<size_t>(rank)].out.type == DType::f32) {
    sum<float>(self, group, rank);
  } else {
    sum<Element>(self, group, rank);
  }
}

template <class Out>
void RankExchange::sum(const Peer& self, RankGroup& group, int rank) {
  if (Communicators* const communicators = communicators_of(group)) {
    const RankValue& own = group.values()[static_cast<size_t>(rank)];
    const Matrix<float> x = matrix_of<float>(own.x, stream_.device());
    communicators->all_reduce(rank, x);
    convert<float, Out>(stream_, x, matrix_of<Out>(own.out, stream_.device()));
    return;
  }
  sum_in_memory<Out>(self, group, rank);
  stream_.record(read_);
}

template <class Out>
void RankExchange::sum_in_memory(const Peer& self, RankGroup& group, int rank) {
  wait_for(&RankExchange::published_, self, group.values());
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
  group.barrier();
  wait_for(&RankExchange::summed_, self, group.values());
  gather_shares<Out>(stream_, sums.data(), ranks, rank);
}

template <class Element>
void RankExchange::all_gather(const Peer& self, const RankGroup& group, int rank) {
  Communicators* const communicators = communicators_of(group);
  const RankValue& own = group.values()[static_cast<size_t>(rank)];
  if (communicators != nullptr) {
    communicators->exchange(rank, group.values());
  } else {
    wait_for(&RankExchange::published_, self, group.values());
  }
  if (own.out.data != nullptr) {
    for (const GatheredPiece& piece : *own.pieces) {
      if (communicators != nullptr && piece.rank != rank) continue;
      const Tensor& x = group.values()[static_cast<size_t>(piece.rank)].x;
      if (own.out.type == DType::f32) {
        copy_columns<float>(stream_, x, piece, own.out);
      } else {
        copy_columns<Element>(stream_, x, piece, own.out);
      }
    }
  }
  if (communicators == nullptr) stream_.record(read_);
}

void RankExchange::release(const Peer& self, const RankGroup& group) {
  if (group.link() != nullptr) return;
  for (const Backend* rank : group.backends()) {
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
template void RankExchange::all_gather<half>(const Peer&, const RankGroup&, int);
template void RankExchange::all_gather<bfloat16>(const Peer&, const RankGroup&, int);

}  // namespace billfish::BILLFISH_TARGET
