#include "cpu/operators.h"

#include <cmath>
#include <cstring>

#include "cpu/row_kernels.h"

namespace billfish::cpu {

void run(OperatorContext& context, const Call<billfish::Embedding>& call) {
  const Matrix& table = matrix_of(*call.table);
  const RowKernels& kernels = row_kernels();
  const char* data = static_cast<const char*>(table.data);
  const size_t row_bytes = static_cast<size_t>(table.in) * byte_size(table.type);
  for_each_row(call.out.rows, table.in, context.pool, [&](int64_t r) {
    float* const target = row_of(call.out, r);
    const int64_t row = context.batch->tokens[static_cast<size_t>(r)] - call.first;
    if (row < 0 || row >= table.out) {
      std::fill_n(target, table.in, 0.0f);
    } else {
      kernels.widen(table.type, data + static_cast<size_t>(row) * row_bytes, table.in, target);
    }
  });
}

// A few rows of logits at most: not worth a parallel region.
void run(OperatorContext& context, const Call<billfish::Gather>& call) {
  for (int64_t i = 0; i < call.out.rows; ++i) {
    const float* const from = row_of(call.x, context.batch->logit_rows[static_cast<size_t>(call.first + i)]);
    std::copy(from, from + call.x.columns, row_of(call.out, i));
  }
}

// The mean is accumulated in fp32, in 16 lanes or more.
void run(OperatorContext& context, const Call<billfish::RmsNorm>& call) {
  const float* const weight = vector_of(call.weight);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    for (int64_t at = 0; at < call.x.columns; at += call.width) {
      kernels.rms_norm(row_of(call.x, r) + at, weight, call.width, call.eps, row_of(call.out, r) + at);
    }
  });
}

void run(OperatorContext& context, const Call<billfish::AddRmsNorm>& call) {
  const float* const weight = vector_of(call.weight);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    kernels.add_rms_norm(row_of(call.x, r), row_of(call.y, r), weight, call.x.columns, call.eps, row_of(call.out, r));
  });
}

void run(OperatorContext& context, const Call<billfish::LayerNorm>& call) {
  const float *const weight = vector_of(call.weight), *const bias = vector_of(call.bias);
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    kernels.layer_norm(row_of(call.x, r), weight, bias, call.x.columns, call.eps, row_of(call.out, r));
  });
}

void run(OperatorContext& context, const Call<billfish::Add>& call) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(call.x.rows, call.x.columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const x = row_of(call.x, r) + first;
    kernels.add(x, row_of(call.y, r) + first, count, x);
  });
}

// The relative error of exp is 2e-7 at most.
void run(OperatorContext& context, const Call<billfish::SiluMul>& call) {
  const RowKernels& kernels = row_kernels();
  for_row_parts(call.gate.rows, call.gate.columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const gate = row_of(call.gate, r) + first;
    kernels.silu_mul(gate, row_of(call.up, r) + first, count, gate);
  });
}

void run(OperatorContext& context, const Call<billfish::SigmoidMul>& call) {
  for_row_parts(call.x.rows, call.x.columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const x = row_of(call.x, r) + first;
    const float* const gate = row_of(call.gate, r);
    if (call.gate.columns == 1) {
      const float factor = 1.0f / (1.0f + std::exp(-gate[0]));
      for (int64_t i = 0; i < count; ++i) x[i] *= factor;
    } else {
      for (int64_t i = 0; i < count; ++i) x[i] /= 1.0f + std::exp(-gate[first + i]);
    }
  });
}

// A NaN ranks highest: it is among the chosen, and makes all weights NaN.
static float rank_of(float logit) { return std::isnan(logit) ? INFINITY : logit; }

// The next one of a row's logits in order: the largest below (value, expert), of equals the lowest expert.
static int64_t next_expert(const float* logits, int64_t experts, float value, int64_t expert) {
  int64_t best = -1;
  for (int64_t e = 0; e < experts; ++e) {
    const float own = rank_of(logits[e]);
    if (expert >= 0 && (own > value || (own == value && e <= expert))) continue;
    if (best < 0 || own > rank_of(logits[best])) best = e;
  }
  return best;
}

void run(OperatorContext& context, const Call<billfish::Route>& call) {
  const int64_t experts = call.x.columns, count = call.top_k;
  for_each_row(call.x.rows, experts * count, context.pool, [&](int64_t r) {
    const float* const logits = row_of(call.x, r);
    float *const chosen = row_of(call.out, r), *const weights = chosen + count;
    float value = 0;
    int64_t expert = -1;
    for (int64_t j = 0; j < count; ++j) {
      expert = next_expert(logits, experts, value, expert);
      value = rank_of(logits[expert]);
      chosen[j] = static_cast<float>(expert);
    }
    const float largest = logits[static_cast<int64_t>(chosen[0])];
    float sum = 0;
    for (int64_t j = 0; j < count; ++j) {
      weights[j] = std::exp(logits[static_cast<int64_t>(chosen[j])] - largest);
      if (call.normalize != 0) sum += weights[j];
    }
    if (call.normalize == 0) {
      for (int64_t e = 0; e < experts; ++e) sum += std::exp(logits[e] - largest);
    }
    for (int64_t j = 0; j < count; ++j) weights[j] /= sum;
  });
}

void run(OperatorContext& context, const Call<billfish::Combine>& call) {
  const int64_t slots = call.routing.columns / 2, columns = call.out.columns;
  for_row_parts(call.out.rows, columns, context.pool, [&](int64_t r, int64_t first, int64_t count) {
    float* const out = row_of(call.out, r) + first;
    const float* const weights = row_of(call.routing, r) + slots;
    std::fill_n(out, count, 0.0f);
    for (int64_t j = 0; j < slots; ++j) {
      const float* const x = row_of(call.x, r) + j * columns + first;
      for (int64_t i = 0; i < count; ++i) out[i] += weights[j] * x[i];
    }
  });
}

void run(OperatorContext& context, const Call<billfish::LogNScale>& call) {
  const RowKernels& kernels = row_kernels();
  for_each_row(call.x.rows, call.x.columns, context.pool, [&](int64_t r) {
    const int64_t ordinal = int64_t{context.batch->positions[static_cast<size_t>(r)]} + 1;
    if (ordinal <= call.length) return;
    const double factor = std::log(static_cast<double>(ordinal)) / std::log(static_cast<double>(call.length));
    float* const row = row_of(call.x, r);
    kernels.scale(row, static_cast<float>(factor), call.x.columns, row);
  });
}

// --- Rotary position embedding.

// As transformers computes them: exponents and powers rounded to fp32, then the reciprocal in fp32.
static void frequencies_of_base(double base, int64_t half, float* frequencies) {
  const double rounded_base = static_cast<float>(base);
  for (int64_t i = 0; i < half; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(2 * half);
    frequencies[i] = 1.0f / static_cast<float>(std::pow(rounded_base, static_cast<double>(exponent)));
  }
}

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

// --- Collectives.

void all_reduce(const std::vector<RankValue>& values, int rank, ThreadPool& pool) {
  constexpr int64_t line = 16;  // floats: ranks never share a cache line
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
