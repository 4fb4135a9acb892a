// The operators of engine/operators.h on the CPU: run(context, call). Linears, experts' linears and attention have
// sources of their own, the others are in operators.cc. All activations are fp32. Rows are independent unless said
// otherwise, and every operator shares its rows over the pool.
#pragma once
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/linear.h"
#include "engine/batch.h"
#include "engine/operators.h"
#include "engine/rank_group.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// Weights of a stage, as the Backend makes them and operators find them in their calls.
struct VectorWeight final : Weight {
  float* values = nullptr;
};
struct MatrixWeight final : Weight {
  Matrix matrix;
};
struct QuantizedWeight final : Weight {
  QuantizedLinear linear;
};

// Null for an optional weight that is missing.
inline const float* vector_of(const Weight* weight) {
  return weight == nullptr ? nullptr : static_cast<const VectorWeight*>(weight)->values;
}
inline const Matrix& matrix_of(const Weight& weight) { return static_cast<const MatrixWeight&>(weight).matrix; }

// Cosines and sines of the step in progress, [max_rows][2][half].
struct RopeTable {
  float* data = nullptr;
  int64_t half = 0;
};

// What operators find beside their operands.
struct OperatorContext {
  ThreadPool& pool;
  Precision precision = Precision::fast;
  DType cache_type = DType::f16;
  Scratch scratch = {};
  std::vector<RopeTable> rope_tables = {};    // one a rope of the program
  const Batch* batch = nullptr;               // of the step in progress
  std::vector<LinearCall> linear_calls = {};  // room for those of one operator
};

#define BILLFISH_RUN(Name) void run(OperatorContext& context, const Call<billfish::Name>& call);
BILLFISH_BACKEND_OPERATORS(BILLFISH_RUN)
#undef BILLFISH_RUN

// Of gatedDeltaRule, whose other scratch is in registers and on the stack.
size_t delta_rule_scratch_bytes(int64_t rows, int64_t heads, int64_t key_heads);

inline float* row_of(const Tensor& tensor, int64_t row) {
  return static_cast<float*>(tensor.data) + row * tensor.stride;
}
inline Rows rows_of(const Tensor& t) { return {static_cast<const float*>(t.data), t.rows, t.columns, t.stride, {}}; }

// cos/sin of every row's angles, which all layers of a step share: angle[r, i] = float(position[r]) *
// inverse_frequency[i] (rounded to fp32, as PyTorch does), table[r] = { cos[0..half), sin[0..half) } * attention_scale.
// A sequence with rope_base != 0 takes inverse_frequency[i] = 1 / rope_base^(2i / (2 half)) in its place (dynamic NTK),
// which is written to `scratch`, [half].
void rope_table(const Batch& batch, const float* inverse_frequency, int64_t half, float attention_scale, float* table,
                float* scratch, ThreadPool& pool);

// Collectives of CPU ranks, which share this process's memory. This one computes this rank's share of the columns, in
// every rank's out: sums of all ranks' x, starting with rank 0.
void all_reduce(const std::vector<RankValue>& values, int rank, ThreadPool& pool);

void all_gather(const std::vector<RankValue>& values, int rank);

// A region costs a microsecond or two, in which one core processes about ten thousand elements: fewer are not worth a
// second thread.
constexpr int64_t elements_per_piece = 8192;

inline int64_t rows_per_piece(int64_t elements_per_row) {
  return std::max<int64_t>(1, elements_per_piece / std::max<int64_t>(1, elements_per_row));
}

// Calls apply(row) for all rows.
template <class Apply>
void for_each_row(int64_t rows, int64_t elements_per_row, ThreadPool& pool, Apply apply) {
  pool.parallel_for(rows, rows_per_piece(elements_per_row), [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) apply(r);
  });
}

// Calls apply(row, first column, columns) over all elements, of operators in which no element depends on another. Long
// rows are cut, so that a single one (decode) is shared as well.
template <class Apply>
void for_row_parts(int64_t rows, int64_t columns, ThreadPool& pool, Apply apply) {
  if (rows <= 0 || columns <= 0) return;
  const int64_t parts = (columns - 1) / elements_per_piece + 1;
  const int64_t part_columns = ((columns - 1) / parts / 16 + 1) * 16;
  for_each_row(rows * parts, part_columns, pool, [&](int64_t i) {
    const int64_t first = i % parts * part_columns;
    if (first < columns) apply(i / parts, first, std::min(part_columns, columns - first));
  });
}

}  // namespace billfish::cpu
