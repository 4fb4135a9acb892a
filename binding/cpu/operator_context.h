// The operators of engine/operators.h on the CPU: run(context, call), each in a file of its own. All activations are
// fp32. Rows are independent unless said otherwise, and every operator shares its rows over the pool.
#pragma once
#include <cstdint>
#include <vector>

#include "cpu/linear.h"
#include "cpu/scratch.h"
#include "engine/batch.h"
#include "engine/operators.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

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

inline float* row_of(const Tensor& tensor, int64_t row) {
  return static_cast<float*>(tensor.data) + row * tensor.stride;
}
inline Rows rows_of(const Tensor& t) { return {static_cast<const float*>(t.data), t.rows, t.columns, t.stride}; }

}  // namespace billfish::cpu
