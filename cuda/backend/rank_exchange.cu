#include "backend/rank_exchange.h"

#include <charconv>
#include <cstdlib>
#include <limits>
#include <string>

#include "backend/communicators.h"
#include "engine/error.h"
#include "layer/matrix_of.h"
#include "layer/rank_sum.h"
#include "layer/tensor.h"
#include "runtime/libraries.h"

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

// --- The choice between one shot and two.

// An estimate for NVLink, not measured. The second shot costs a barrier of the ranks' threads, a cross-device event and
// a launch: about 10 us together, in which a link of 300 GB/s (an A100's; an H100's has 450) moves 3 MB. A model of
// 8192 channels with 16-bit results saves that from these row counts on:
//
//   ranks     2    3    4    8
//   rows    384   97   52   17      saved: (ranks - 1) * columns * (4 - (4 + 2) / ranks) bytes a row
//
// A PCIe link of 25 GB/s breaks even at a twelfth of them.
static constexpr int64_t default_min_saved = int64_t{3} << 20;
static constexpr int64_t never = std::numeric_limits<int64_t>::max();

static int64_t min_saved_from_environment() {
  const char* given = std::getenv("BILLFISH_CUDA_TWO_SHOT");
  const std::string text = given == nullptr ? "" : given;
  if (text.empty()) return default_min_saved;
  if (text == "never") return never;
  int64_t bytes = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), bytes);
  if (error != std::errc() || stop != text.data() + text.size() || bytes < 0) {
    throw Error("INVALID_OPTION", "BILLFISH_CUDA_TWO_SHOT is '" + text +
                                      "'; it must be the bytes that the second shot saves at least, or 'never'.");
  }
  return bytes;
}

TwoShot::TwoShot() : min_saved_(min_saved_from_environment()) {}

bool TwoShot::pays(int ranks, int64_t rows, int64_t columns, int64_t out_bytes) const {
  const int64_t in_one = (ranks - 1) * columns * 4;
  const int64_t in_two = (ranks - 1) * share_columns(columns, ranks) * (4 + out_bytes);
  return min_saved_ != never && (min_saved_ == 0 || rows * (in_one - in_two) >= min_saved_);
}

// --- The choice between peer access and NCCL.

// Why the ranks have no peer access; empty if they have it.
static std::string peer_access_error_among(const std::vector<Peer*>& ranks) {
  for (const Peer* one : ranks) {
    for (const Peer* other : ranks) {
      const std::string objection = one->target_device().peer_access_error(other->target_device());
      if (!objection.empty()) return objection;
    }
  }
  return "";
}

RankLinkChoice link_ranks(const std::vector<Backend*>& ranks) {
  if (ranks.size() > max_ranks) {
    throw Error("INVALID_OPTION", std::to_string(ranks.size()) + " ranks a stage (tensorParallelSize), where " +
                                      std::to_string(max_ranks) + " are possible on GPUs.");
  }
  std::vector<Peer*> peers;
  std::vector<Stream*> streams;
  std::string names;
  for (Backend* rank : ranks) {
    auto* const peer = dynamic_cast<Peer*>(rank);
    if (peer == nullptr) refuse_ranks(*ranks[0], *rank);
    peers.push_back(peer);
    streams.push_back(&peer->stream());
    names += (names.empty() ? "" : ", ") + rank->device();
  }
  const std::string objection = peer_access_error_among(peers);
  const NcclLibrary& library = collective_library();
  if (objection.empty() && !library.requested) return {};
  if (!library.reason.empty()) {
    if (objection.empty()) throw Error("INVALID_OPTION", library.reason + " Unset it, or name NCCL's file.");
    throw Error("INVALID_OPTION", names + " cannot compute a stage together: " + objection +
                                      ", and NCCL, which needs no such reach, is not there: " + library.reason);
  }
  RankLinkChoice choice{std::make_unique<Communicators>(library, streams), ""};
  if (!objection.empty()) {
    choice.notice = "The ranks on " + names + " exchange values through NCCL " + nccl_version_text(library.version) +
                    " (" + library.path + "), which may be slower and takes memory that plans do not count, because " +
                    objection + ".";
  }
  return choice;
}

}  // namespace billfish::BILLFISH_TARGET
