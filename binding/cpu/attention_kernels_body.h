// The attention kernel, written once over Vector. Each kernels_*.cc includes it after its Vector.
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

#include "cpu/kernels.h"

namespace billfish::cpu {
namespace {
namespace attention {

using Value = Vector::Value;

// --- A small fp32 matrix product: C[rows][columns] = A[rows][depth] * B[depth][columns], whole vectors of columns,
// operands in cache. A tile of up to gemm_rows x gemm_vectors accumulators stays in registers over the whole depth:
// each step loads gemm_vectors vectors of B and broadcasts gemm_rows elements of A for gemm_rows * gemm_vectors
// multiply-adds.

struct Operand {
  const float* data;
  int stride;
};
struct Result {
  float* data;
  int stride;
};

// Without factors the tile starts at zero, with them at C[r] * factors[r].
template <int rows, int vectors>
void gemm_tile(Operand a, Operand b, Result c, int depth, const float* factors) {
  Value sums[rows][vectors];
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) {
      sums[r][i] = factors == nullptr ? Vector::zero()
                                      : Vector::multiply(Vector::broadcast(factors[r]),
                                                         Vector::load(c.data + r * c.stride + i * Vector::width));
    }
  }
  for (int k = 0; k < depth; ++k) {
    Value columns[vectors];
    for (int i = 0; i < vectors; ++i) columns[i] = Vector::load(b.data + k * b.stride + i * Vector::width);
    for (int r = 0; r < rows; ++r) {
      const Value element = Vector::broadcast(a.data[r * a.stride + k]);
      for (int i = 0; i < vectors; ++i) sums[r][i] = Vector::multiply_add(element, columns[i], sums[r][i]);
    }
  }
  for (int r = 0; r < rows; ++r) {
    for (int i = 0; i < vectors; ++i) Vector::store(c.data + r * c.stride + i * Vector::width, sums[r][i]);
  }
}

using GemmTile = void (*)(Operand a, Operand b, Result c, int depth, const float* factors);

template <int rows>
GemmTile gemm_tile_of(int vectors) {
  static_assert(Vector::gemm_vectors == 2 || Vector::gemm_vectors == 4);
  if constexpr (Vector::gemm_vectors == 4) {
    if (vectors == 4) return gemm_tile<rows, 4>;
    if (vectors == 3) return gemm_tile<rows, 3>;
  }
  return vectors == 2 ? gemm_tile<rows, 2> : gemm_tile<rows, 1>;
}

GemmTile gemm_tile_of(int rows, int vectors) {
  static_assert(Vector::gemm_rows == 4 || Vector::gemm_rows == 6);
  if constexpr (Vector::gemm_rows == 6) {
    if (rows == 6) return gemm_tile_of<6>(vectors);
    if (rows == 5) return gemm_tile_of<5>(vectors);
  }
  if (rows == 4) return gemm_tile_of<4>(vectors);
  if (rows == 3) return gemm_tile_of<3>(vectors);
  return rows == 2 ? gemm_tile_of<2>(vectors) : gemm_tile_of<1>(vectors);
}

// Rows and vectors are split evenly: 13 rows make tiles of 5, 4 and 4 rather than 6, 6 and 1.
void gemm(Operand a, Operand b, Result c, int rows, int vectors, int depth, const float* factors) {
  const int row_parts = (rows + Vector::gemm_rows - 1) / Vector::gemm_rows;
  const int vector_parts = (vectors + Vector::gemm_vectors - 1) / Vector::gemm_vectors;
  for (int part = 0; part < vector_parts; ++part) {
    const int first = vectors * part / vector_parts, count = vectors * (part + 1) / vector_parts - first;
    const int column = first * Vector::width;
    for (int row_part = 0; row_part < row_parts; ++row_part) {
      const int row = rows * row_part / row_parts, row_count = rows * (row_part + 1) / row_parts - row;
      gemm_tile_of(row_count, count)({a.data + row * a.stride, a.stride}, {b.data + column, b.stride},
                                     {c.data + row * c.stride + column, c.stride}, depth,
                                     factors == nullptr ? nullptr : factors + row);
    }
  }
}

// --- Tiles of keys.

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
