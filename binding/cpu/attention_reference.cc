// Attention in plain fp64 loops. Keys and values of this step are first rounded to the cache's type, as the cache
// would; earlier ones are read from the cache.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "cpu/attention.h"

namespace billfish::cpu {
namespace {

double as_cached(DType type, float value) {
  if (type != DType::f32 && !std::isfinite(value)) return std::numeric_limits<double>::quiet_NaN();
  if (type == DType::f16) return f16_to_float(float_to_f16(std::clamp(value, -65504.0f, 65504.0f)));
  if (type == DType::bf16) {
    const float largest = bf16_to_float(0x7f7f);
    return bf16_to_float(float_to_bf16(std::clamp(value, -largest, largest)));
  }
  return value;
}

// Keys (or values) of one sequence and kv head as [past + rows][head_dim].
std::vector<double> gather(const Attention& a, const SequenceSpan& sequence, int kv_head, const void* cache,
                           const Rows& fresh) {
  std::vector<double> rows;
  for (int64_t position = 0; position < sequence.past + sequence.rows; ++position) {
    for (int64_t c = 0; c < a.head_dim; ++c) {
      if (position >= sequence.past) {
        const int64_t row = sequence.first_row + position - sequence.past;
        rows.push_back(as_cached(a.cache_type, fresh.data[row * fresh.stride + kv_head * a.head_dim + c]));
        continue;
      }
      const int64_t block = sequence.blocks[position / a.block_size];
      const int64_t at = ((block * a.kv_heads + kv_head) * a.block_size + position % a.block_size) * a.head_dim + c;
      if (a.cache_type == DType::f32) {
        rows.push_back(static_cast<const float*>(cache)[at]);
      } else {
        const uint16_t half = static_cast<const uint16_t*>(cache)[at];
        rows.push_back(a.cache_type == DType::f16 ? f16_to_float(half) : bf16_to_float(half));
      }
    }
  }
  return rows;
}

}  // namespace

void attention_reference(const Attention& a, const Batch& batch, double* out) {
  const int group = a.heads / a.kv_heads;
  for (const SequenceSpan& sequence : batch.sequences) {
    for (int head = 0; head < a.heads; ++head) {
      const std::vector<double> keys = gather(a, sequence, head / group, a.k_cache, a.k);
      const std::vector<double> values = gather(a, sequence, head / group, a.v_cache, a.v);
      for (int64_t i = 0; i < sequence.rows; ++i) {
        const float* q = a.q.data + (sequence.first_row + i) * a.q.stride + static_cast<int64_t>(head) * a.head_dim;
        const int64_t position = sequence.past + i;
        const int64_t first = a.window > 0 ? std::max<int64_t>(0, position - a.window + 1) : 0;
        std::vector<double> scores;
        double largest = -std::numeric_limits<double>::infinity();
        for (int64_t j = first; j <= position; ++j) {
          double score = 0;
          for (int64_t c = 0; c < a.head_dim; ++c) score += q[c] * keys[static_cast<size_t>(j * a.head_dim + c)];
          scores.push_back(score * a.scale);
          largest = std::max(largest, scores.back());
        }
        double sum = 0;
        for (double& score : scores) sum += score = std::exp(score - largest);
        double* to = out + ((sequence.first_row + i) * a.heads + head) * a.head_dim;
        for (int64_t c = 0; c < a.head_dim; ++c) {
          double total = 0;
          for (int64_t j = first; j <= position; ++j) {
            total += scores[static_cast<size_t>(j - first)] * values[static_cast<size_t>(j * a.head_dim + c)];
          }
          to[c] = total / sum;
        }
      }
    }
  }
}

}  // namespace billfish::cpu
