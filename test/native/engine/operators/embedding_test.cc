// Embedding, and the rows whose logits are wanted. See operators_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

void check_Embedding(OperatorBench& bench) {
  for (const DType stored : {DType::f32, DType::f16, DType::bf16}) {
    for (const Width& width : {Width{7, 1}, Width{64, 0}, Width{130, 3}, Width{136, 8}}) {
      const int64_t columns = width.columns;
      bench.prepare({}, {{"table", WeightKind::matrix, 20, columns}});
      // Multiples of 1/64 that every type holds.
      std::vector<float> values = random_floats(20 * columns, 1, 20.0f);
      for (float& value : values) value = std::clamp(std::round(value), -127.0f, 127.0f) / 64;
      const Weight* const table = bench.matrix(values, 20, columns, stored);
      bench.finish();
      Batch batch = batch_at(std::vector<int32_t>(8));
      batch.tokens = {24, 5, 12, 12, 8, 4, 25, 0};  // the last three have no row
      constexpr int64_t first = 5;
      std::vector<double> wanted;
      for (size_t r = 0; r < batch.tokens.size(); ++r) {
        for (int64_t c = 0; c < columns; ++c) {
          wanted.push_back(r < 5 ? values[static_cast<size_t>((batch.tokens[r] - first) * columns + c)] : 0.0f);
        }
      }
      bench.begin(batch);
      const Operand out = bench.room(residual, 8, columns, width.gap);
      bench.run(Call<Embedding>{table, out.tensor, first});
      bench.check("embedding", out, wanted, {});
    }
  }
}

void check_Gather(OperatorBench& bench) {
  bench.prepare({});
  Batch batch = batch_at({5, 6, 7, 8, 9});
  batch.logit_rows = {0, 1, 3, 4};
  bench.begin(batch);
  for (const Width& width : {Width{37, 2}, Width{136, 8}}) {
    const Operand x = bench.put(residual, random_floats(5 * width.columns, 11), width.columns, width.gap);
    for (const int64_t first : {0, 2}) {
      const Operand out = bench.room(residual, 2, width.columns, width.gap);
      std::vector<double> wanted;
      for (const int64_t i : {first, first + 1}) {
        const auto row = x.values.begin() + batch.logit_rows[static_cast<size_t>(i)] * width.columns;
        wanted.insert(wanted.end(), row, row + width.columns);
      }
      bench.run(Call<Gather>{x.tensor, out.tensor, first});
      bench.check("gather", out, wanted, {});
    }
  }
}
