#include "cpu/rope.h"

#include <cmath>

#include "cpu/operator_context.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {
namespace {

// As transformers computes them: exponents and powers rounded to fp32, then the reciprocal in fp32.
void frequencies_of_base(double base, int64_t half, float* frequencies) {
  const double rounded_base = static_cast<float>(base);
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(2 * half);
    frequencies[i] = 1.0f / static_cast<float>(std::pow(rounded_base, static_cast<double>(exponent)));
  }
}

}  // namespace

void rope_table(const Batch& batch, const float* inverse_frequency, int64_t half, float attention_scale, float* table,
                float* scratch, ThreadPool& pool) {
  for (const SequenceSpan& sequence : batch.sequences) {
    const float* frequencies = inverse_frequency;
    if (sequence.rope_base != 0) {
      frequencies_of_base(sequence.rope_base, half, scratch);
      frequencies = scratch;
    }
    const int32_t* positions = batch.positions.data() + sequence.first_row;
    float* rows = table + sequence.first_row * 2 * half;
    // A cosine costs about as much as twenty of the elements that rows_per_piece counts.
    pool.parallel_for(sequence.rows, rows_per_piece(half * 32), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        float* cos = rows + r * 2 * half;
        float* sin = cos + half;
        for (int64_t i = 0; i < half; ++i) {
          const float angle = static_cast<float>(positions[r]) * frequencies[i];
          cos[i] = std::cos(angle) * attention_scale;
          sin[i] = std::sin(angle) * attention_scale;
        }
      }
    });
  }
}

void run(OperatorContext& context, const Call<billfish::Rope>& call) {
  const RopeTable& table = context.rope_tables[static_cast<size_t>(call.rope)];
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    const float* const cos = table.data + r * 2 * table.half;
    for (int32_t head = 0; head < call.heads; ++head) {
      kernels.rotate(row_of(call.x, r) + int64_t{head} * call.head_dim, cos, cos + table.half, table.half);
    }
  });
}

}  // namespace billfish::cpu
