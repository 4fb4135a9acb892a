#include "cpu/rank_operators.h"

#include <algorithm>
#include <cstring>

#include "cpu/operator_context.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {
namespace {

constexpr int64_t line = 16;  // floats: ranks never share a cache line

}  // namespace

void all_reduce(const std::vector<RankValue>& values, int rank, ThreadPool& pool) {
  const auto ranks = static_cast<int64_t>(values.size());
  const Tensor& own = values[static_cast<size_t>(rank)].x;
  const int64_t share = (own.columns + line * ranks - 1) / (line * ranks) * line;
  const int64_t first = std::min(own.columns, rank * share), last = std::min(own.columns, first + share);
  const auto bytes = static_cast<size_t>(last - first) * sizeof(float);
  if (bytes == 0) return;
  pool.parallel_for(own.rows, rows_per_piece(share), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      float* const sum = row_of(values[0].out, r);
      std::memcpy(sum + first, row_of(values[0].x, r) + first, bytes);
      for (int64_t other = 1; other < ranks; ++other) {
        const float* const x = row_of(values[static_cast<size_t>(other)].x, r);
        for (int64_t c = first; c < last; ++c) sum[c] += x[c];
      }
      for (int64_t other = 1; other < ranks; ++other) {
        std::memcpy(row_of(values[static_cast<size_t>(other)].out, r) + first, sum + first, bytes);
      }
    }
  });
}

void all_gather(const std::vector<RankValue>& values, int rank) {
  const Tensor& out = values[static_cast<size_t>(rank)].out;
  if (out.data == nullptr) return;
  for (int64_t r = 0; r < out.rows; ++r) {
    for (const GatheredPiece& piece : *values[static_cast<size_t>(rank)].pieces) {
      std::memcpy(row_of(out, r) + piece.to, row_of(values[static_cast<size_t>(piece.rank)].x, r) + piece.from,
                  static_cast<size_t>(piece.count) * sizeof(float));
    }
  }
}

}  // namespace billfish::cpu
