// The attention kernel, written once over Vector. Each kernels_*.cc includes it after its vector type.
//
// Keys are processed in tiles of 64. For each tile: scores = q k^T, mask, one step of the online softmax, out += p v.
// There are two paths through a tile:
//
//   few queries (decode)    K and V are read in place, once for all queries of the kv head. A score is a dot product;
//                           4 keys x some queries share their loads, and their lanes are summed together at the end.
//   many queries (prefill)  K is widened to fp32 and transposed, V is widened, into a workspace that stays cached;
//                           both products are then register-tiled matrix products, vectorized along keys or head_dim.
#pragma once
#include <cstdint>

#include "cpu/attention_kernels.h"
#include "cpu/gemm_tile.h"

namespace billfish::cpu {
namespace {
namespace attention {

constexpr int width = Vector::width;
constexpr float minus_infinity = -__builtin_inff();

// The number of queries from which widening and transposing a tile pays off.
constexpr int many_queries = 20;

template <DType type>
struct Element {
  using Type = uint16_t;
};
template <>
struct Element<DType::f32> {
  using Type = float;
};

template <DType type>
inline __attribute__((always_inline)) size_t row_bytes(const AttentionTask& task) {
  return static_cast<size_t>(task.head_dim) * sizeof(typename Element<type>::Type);
}

// One vector at column `at` of a cache row; lanes beyond head_dim are zero.
template <DType type>
inline __attribute__((always_inline)) Value load_row(const char* row, int at) {
  const auto* from = reinterpret_cast<const typename Element<type>::Type*>(row) + at;
  if constexpr (type == DType::f16) return Vector::load_f16(from);
  if constexpr (type == DType::bf16) return Vector::load_bf16(from);
  if constexpr (type == DType::f32) return Vector::load(from);
}
template <DType type>
inline __attribute__((always_inline)) Value load_rest(const char* row, int at, int count) {
  const auto* from = reinterpret_cast<const typename Element<type>::Type*>(row) + at;
  if constexpr (type == DType::f16) return Vector::load_f16(from, count);
  if constexpr (type == DType::bf16) return Vector::load_bf16(from, count);
  if constexpr (type == DType::f32) return Vector::load(from, count);
}

// The rows of keys first .. first + count - 1 in the cache. Rows from there to the end of the tile repeat the last one,
// so that whole groups of keys can be read; their scores are masked.
struct TileRows {
  int count;
  const char* k[key_tile];
  const char* v[key_tile];
};

template <DType type>
void find_rows(const AttentionTask& task, int first, TileRows& rows) {
  const int left = task.last_key - first;
  rows.count = left <= 0 ? 0 : left < key_tile ? left : key_tile;
  if (rows.count == 0) return;
  int block = first / task.block_size, within = first % task.block_size;
  for (int j = 0; j < rows.count; ++block, within = 0) {
    const size_t offset = static_cast<size_t>(task.blocks[block]) * task.block_bytes;
    for (; j < rows.count && within < task.block_size; ++j, ++within) {
      rows.k[j] = task.k + offset + static_cast<size_t>(within) * row_bytes<type>(task);
      rows.v[j] = task.v + offset + static_cast<size_t>(within) * row_bytes<type>(task);
    }
  }
  for (int j = rows.count; j < key_tile; ++j) rows.k[j] = rows.k[rows.count - 1];
}

// Blocks are scattered in memory, so the hardware prefetcher fails at the end of each. The rows of the next tile are
// prefetched while this one is computed, spread over the computation so that memory is never idle.
inline __attribute__((always_inline)) void prefetch(const char* from, size_t bytes) {
  for (size_t at = 0; at < bytes; at += 64) __builtin_prefetch(from + at);
}

// scores[0..queries) x [0..4) = q . k of four keys.
template <DType type, int queries>
void dot_tile(const float* q, int q_stride, int head_dim, const char* const* k, float* scores) {
  Value sums[queries][4];
  for (int m = 0; m < queries; ++m) {
    for (int j = 0; j < 4; ++j) sums[m][j] = Vector::zero();
  }
  int at = 0;
  for (; at + width <= head_dim; at += width) {
    Value keys[4];
    for (int j = 0; j < 4; ++j) keys[j] = load_row<type>(k[j], at);
    for (int m = 0; m < queries; ++m) {
      const Value query = Vector::load(q + m * q_stride + at);
      for (int j = 0; j < 4; ++j) sums[m][j] = Vector::multiply_add(query, keys[j], sums[m][j]);
    }
  }
  if (at < head_dim) {
    Value keys[4];
    for (int j = 0; j < 4; ++j) keys[j] = load_rest<type>(k[j], at, head_dim - at);
    for (int m = 0; m < queries; ++m) {
      const Value query = Vector::load(q + m * q_stride + at);
      for (int j = 0; j < 4; ++j) sums[m][j] = Vector::multiply_add(query, keys[j], sums[m][j]);
    }
  }
  for (int m = 0; m < queries; ++m) {
    Vector::sum4(sums[m][0], sums[m][1], sums[m][2], sums[m][3], scores + m * key_tile);
  }
}

// Cuts `queries` into groups that fit the registers and calls run<size>(first) for each.
template <class Run>
inline __attribute__((always_inline)) void for_query_groups(int queries, Run run) {
  constexpr int most = Vector::dot_queries;
  static_assert(most == 2 || most == 4);
  int m = 0;
  for (; m + most <= queries; m += most) run.template operator()<most>(m);
  if constexpr (most == 4) {
    if (queries - m == 3) run.template operator()<3>(m);
    if (queries - m == 2) run.template operator()<2>(m);
  }
  if (queries - m == 1) run.template operator()<1>(m);
}

template <DType type>
void dot_scores(const AttentionTask& task, const TileRows& rows, const TileRows& next, float* scores) {
  for (int j = 0; j < rows.count; j += 4) {
    for (int i = j; i < j + 4 && i < next.count; ++i) prefetch(next.k[i], row_bytes<type>(task));
    for_query_groups(task.queries, [&]<int queries>(int m) {
      dot_tile<type, queries>(task.q + m * task.padded_dim, task.padded_dim, task.head_dim, rows.k + j,
                              scores + m * key_tile + j);
    });
  }
}

// out[0..queries) = out * factors + weights v, on `vectors` vectors at column `at`; prefetches these columns of the
// first `ahead` keys of the next tile.
template <DType type, int queries, int vectors>
void weigh_tile(const float* weights, const TileRows& rows, const TileRows& next, int ahead, int at, int rest,
                const float* factors, float* out, int out_stride) {
  constexpr size_t element = sizeof(typename Element<type>::Type);
  Value sums[queries][vectors];
  for (int m = 0; m < queries; ++m) {
    const Value factor = Vector::broadcast(factors[m]);
    for (int i = 0; i < vectors; ++i) {
      sums[m][i] = Vector::multiply(factor, Vector::load(out + m * out_stride + at + i * width));
    }
  }
  for (int j = 0; j < rows.count; ++j) {
    if (j < ahead) prefetch(next.v[j] + at * element, vectors * width * element);
    Value values[vectors];
    for (int i = 0; i < vectors; ++i) {
      values[i] = rest == 0 ? load_row<type>(rows.v[j], at + i * width) : load_rest<type>(rows.v[j], at, rest);
    }
    for (int m = 0; m < queries; ++m) {
      const Value weight = Vector::broadcast(weights[m * key_tile + j]);
      for (int i = 0; i < vectors; ++i) sums[m][i] = Vector::multiply_add(weight, values[i], sums[m][i]);
    }
  }
  for (int m = 0; m < queries; ++m) {
    for (int i = 0; i < vectors; ++i) Vector::store(out + m * out_stride + at + i * width, sums[m][i]);
  }
}

template <DType type, int queries>
void weigh_columns(const AttentionTask& task, int m, const TileRows& rows, const TileRows& next, const float* scores,
                   const float* factors) {
  const float* weights = scores + m * key_tile;
  float* out = task.out + m * task.padded_dim;
  const int stride = task.padded_dim, ahead = m == 0 ? next.count : 0;
  int at = 0;
  for (; at + 4 * width <= task.head_dim; at += 4 * width) {
    weigh_tile<type, queries, 4>(weights, rows, next, ahead, at, 0, factors + m, out, stride);
  }
  for (; at + 2 * width <= task.head_dim; at += 2 * width) {
    weigh_tile<type, queries, 2>(weights, rows, next, ahead, at, 0, factors + m, out, stride);
  }
  for (; at < task.head_dim; at += width) {
    const int rest = task.head_dim - at < width ? task.head_dim - at : 0;
    weigh_tile<type, queries, 1>(weights, rows, next, ahead, at, rest, factors + m, out, stride);
  }
}

template <DType type>
void weigh_values(const AttentionTask& task, const TileRows& rows, const TileRows& next, const float* scores,
                  const float* factors) {
  for_query_groups(task.queries,
                   [&]<int queries>(int m) { weigh_columns<type, queries>(task, m, rows, next, scores, factors); });
}

// transposed[d][j] = key j's column d, for whole vectors of keys.
template <DType type>
void transpose_keys(const AttentionTask& task, const TileRows& rows, float* transposed) {
  for (int j = 0; j < rows.count; j += width) {
    for (int at = 0; at < task.head_dim; at += width) {
      const int columns = task.head_dim - at < width ? task.head_dim - at : width;
      Value square[width];
      for (int i = 0; i < width; ++i) {
        square[i] = columns == width ? load_row<type>(rows.k[j + i], at) : load_rest<type>(rows.k[j + i], at, columns);
      }
      Vector::transpose(square);
      for (int i = 0; i < columns; ++i) Vector::store(transposed + (at + i) * key_tile + j, square[i]);
    }
  }
}

template <DType type>
void widen_values(const AttentionTask& task, const TileRows& rows, float* values) {
  for (int j = 0; j < rows.count; ++j) {
    int at = 0;
    for (; at + width <= task.head_dim; at += width) {
      Vector::store(values + j * task.padded_dim + at, load_row<type>(rows.v[j], at));
    }
    if (at < task.head_dim) {
      Vector::store(values + j * task.padded_dim + at, load_rest<type>(rows.v[j], at, task.head_dim - at));
    }
  }
}

// One step of the online softmax of query m: turns the scores of keys first .. first + count - 1 into weights relative
// to the new maximum, and returns the factor by which earlier sums shrink.
float softmax_step(const AttentionTask& task, int m, int first, int count, float* scores) {
  const int position = task.first_position + m / task.group;
  int begin = task.window > 0 ? position - task.window + 1 - first : 0;
  int end = position + 1 - first;
  begin = begin < 0 ? 0 : begin;
  end = end > count ? count : end;
  const int padded = (count + width - 1) / width * width;
  if (begin >= end) {
    for (int j = 0; j < padded; j += width) Vector::store(scores + j, Vector::zero());
    return 1.0f;
  }
  for (int j = 0; j < begin; ++j) scores[j] = minus_infinity;
  for (int j = end; j < padded; ++j) scores[j] = minus_infinity;

  Value largest = Vector::load(scores);
  for (int j = width; j < padded; j += width) largest = Vector::maximum(largest, Vector::load(scores + j));
  const float tile_maximum = Vector::largest(largest), before = task.maximum[m];
  float shrink = 1.0f;
  if (!(tile_maximum <= before)) {
    shrink = Vector::first(Vector::exp2(Vector::broadcast(before - tile_maximum)));
    task.maximum[m] = tile_maximum;
  }
  const Value maximum = Vector::broadcast(task.maximum[m]);
  Value sum = Vector::zero();
  for (int j = 0; j < padded; j += width) {
    const Value weight = Vector::exp2(Vector::subtract(Vector::load(scores + j), maximum));
    Vector::store(scores + j, weight);
    sum = Vector::add(sum, weight);
  }
  task.sum[m] = task.sum[m] * shrink + Vector::sum(sum);
  return shrink;
}

template <DType type>
void attend(const AttentionTask& task) {
  float* transposed = task.workspace;
  float* values = transposed + task.padded_dim * key_tile;
  float* scores = values + task.padded_dim * key_tile;
  float* factors = scores + task.queries * key_tile;
  const int dim_vectors = (task.head_dim + width - 1) / width;

  for (int m = 0; m < task.queries; ++m) {
    task.maximum[m] = minus_infinity;
    task.sum[m] = 0;
    for (int at = 0; at < task.padded_dim; at += width)
      Vector::store(task.out + m * task.padded_dim + at, Vector::zero());
  }
  TileRows tiles[2];
  TileRows *rows = &tiles[0], *next = &tiles[1];
  find_rows<type>(task, task.first_key, *rows);
  for (int first = task.first_key; first < task.last_key; first += key_tile) {
    find_rows<type>(task, first + key_tile, *next);
    const bool as_product = task.queries >= many_queries;
    if (as_product) {
      for (int j = 0; j < next->count; ++j) prefetch(next->k[j], row_bytes<type>(task));
      transpose_keys<type>(task, *rows, transposed);
      gemm({task.q, task.padded_dim}, {transposed, key_tile}, {scores, key_tile}, task.queries,
           (rows->count + width - 1) / width, task.head_dim, nullptr);
    } else {
      dot_scores<type>(task, *rows, *next, scores);
    }
    for (int m = 0; m < task.queries; ++m)
      factors[m] = softmax_step(task, m, first, rows->count, scores + m * key_tile);
    if (as_product) {
      for (int j = 0; j < next->count; ++j) prefetch(next->v[j], row_bytes<type>(task));
      widen_values<type>(task, *rows, values);
      gemm({scores, key_tile}, {values, task.padded_dim}, {task.out, task.padded_dim}, task.queries, dim_vectors,
           rows->count, factors);
    } else {
      weigh_values<type>(task, *rows, *next, scores, factors);
    }
    TileRows* done = rows;
    rows = next;
    next = done;
  }
}

void run_attention(const AttentionTask& task) {
  if (task.type == DType::f16) {
    attend<DType::f16>(task);
  } else if (task.type == DType::bf16) {
    attend<DType::bf16>(task);
  } else {
    attend<DType::f32>(task);
  }
}

}  // namespace attention
}  // namespace
}  // namespace billfish::cpu
