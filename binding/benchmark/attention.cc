#include "benchmark/attention.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

namespace billfish::bench {
namespace {

constexpr int32_t block_size = 32;  // like models
constexpr int32_t max_fill_rows = 2048;

int32_t blocks_each(const AttentionCase& c) { return (c.past + c.rows + block_size - 1) / block_size; }

// Positions that one cache-filling step adds to each sequence.
int32_t fill_rows_each(const AttentionCase& c) {
  return std::clamp(max_fill_rows / c.sequences, 1, std::max(c.past, 1));
}

StageLimits limits_of(const AttentionCase& c) {
  const int32_t rows = c.sequences * std::max(c.rows, fill_rows_each(c));
  return {block_size, c.sequences * blocks_each(c), rows, 1};
}

// The case's attention, and the same with a window of one position, which fills the cache cheaply. The output is a
// value that no operator computes, so that nothing is allocated to pass it on.
Program program_of(const AttentionCase& c) {
  Program program;
  const int64_t columns = int64_t{c.heads} * c.head_dim, kv_columns = int64_t{c.kv_heads} * c.head_dim;
  for (const int64_t width : {columns, kv_columns, kv_columns, columns}) {
    program.values.push_back({width, RowKind::tokens, ValueClass::activation});
  }
  program.cache_layers.push_back({c.kv_heads, c.head_dim});
  for (const int32_t window : {c.window, 1})
    program.operators.emplace_back(Attention{0, 1, 2, 3, 0, c.heads, 1, window});
  program.output = static_cast<ValueId>(program.values.size());
  program.values.push_back({1, RowKind::logits, ValueClass::logits});
  return program;
}

class AttentionBench {
 public:
  AttentionBench(const Target& target, const AttentionCase& c, const Control& control)
      : case_(c), control_(control), bench_(target, program_of(c), {}, limits_of(c), control) {
    const StageLimits limits = limits_of(c);
    const size_t half_bytes = static_cast<size_t>(limits.positions()) * static_cast<size_t>(c.kv_heads) *
                              static_cast<size_t>(c.head_dim) * byte_size(bench_.backend().cache_type());
    const int copies = bench_.copies_exceeding_caches(2 * half_bytes);
    for (int copy = 0; copy < copies; ++copy) {
      void* keys = bench_.backend().allocate(half_bytes, MemoryUse::kv_cache);
      caches_.push_back({keys, bench_.backend().allocate(half_bytes, MemoryUse::kv_cache)});
    }
    tables_.resize(static_cast<size_t>(limits.block_count));
    std::iota(tables_.begin(), tables_.end(), 0);
    std::shuffle(tables_.begin(), tables_.end(), std::mt19937(1));
    const int64_t kv_columns = int64_t{c.kv_heads} * c.head_dim;
    q_ = bench_.random_activations(limits.max_rows, int64_t{c.heads} * c.head_dim);
    k_ = bench_.random_activations(limits.max_rows, kv_columns);
    v_ = bench_.random_activations(limits.max_rows, kv_columns);
    out_ = bench_.allocate_activations(limits.max_rows, q_.columns);
    fill();
  }

  AttentionResult run() {
    AttentionResult result;
    const Batch batch = batch_of(case_.past, case_.rows);
    bench_.backend().begin(batch, {});
    result.memory_rate = bench_.benchmark_hooks().memory_rate();
    result.timing =
        bench_.measure(static_cast<int>(caches_.size()), [&](int copy) { attend(batch, copy, case_.window); });
    const int64_t window = case_.window > 0 ? case_.window : int64_t{case_.past} + case_.rows;
    const int64_t keys = std::min<int64_t>(window + case_.rows - 1, int64_t{case_.past} + case_.rows);
    double pairs = 0;  // (query, key) pairs
    for (int64_t i = 0; i < case_.rows; ++i) pairs += static_cast<double>(std::min(window, case_.past + i + 1));
    result.cache_bytes =
        static_cast<uint64_t>(2 * keys * case_.sequences * k_.columns) * byte_size(bench_.backend().cache_type());
    result.multiplications = 2 * pairs * case_.sequences * static_cast<double>(q_.columns);
    return result;
  }

 private:
  // Each sequence adds `rows` positions to `past` others.
  Batch batch_of(int32_t past, int32_t rows) const {
    Batch batch;
    for (int32_t s = 0; s < case_.sequences; ++s) {
      const int32_t each = blocks_each(case_);
      batch.sequences.push_back({s * rows, rows, past, tables_.data() + static_cast<ptrdiff_t>(s) * each, each});
      for (int32_t i = 0; i < rows; ++i) batch.positions.push_back(past + i);
    }
    batch.tokens.resize(batch.positions.size());
    return batch;
  }

  void attend(const Batch& batch, int copy, int32_t window) {
    const auto part = [&](Tensor tensor) {
      tensor.rows = batch.rows();
      return tensor;
    };
    const auto& [keys, values] = caches_[static_cast<size_t>(copy)];
    const float scale = 1 / std::sqrt(static_cast<float>(case_.head_dim));
    const LayerCache layer{keys, values, block_size, case_.kv_heads, case_.head_dim};
    bench_.backend().run(Call<Attention>{part(q_), part(k_), part(v_), part(out_), layer, case_.heads, scale, window});
  }

  void fill() {
    const int32_t step = fill_rows_each(case_);
    for (int32_t past = 0; past < case_.past; past += step) {
      control_.check();
      const Batch batch = batch_of(past, std::min(step, case_.past - past));
      bench_.backend().begin(batch, {});
      for (size_t copy = 0; copy < caches_.size(); ++copy) attend(batch, static_cast<int>(copy), 1);
      bench_.benchmark_hooks().wait();
    }
  }

  struct Cache {
    void* keys;
    void* values;
  };
  AttentionCase case_;
  const Control& control_;
  BenchmarkHarness bench_;
  std::vector<Cache> caches_;
  std::vector<int32_t> tables_;  // the blocks of all sequences, shuffled
  Tensor q_, k_, v_, out_;
};

}  // namespace

AttentionMachine measure_attention(const Target& target, const std::vector<AttentionCase>& cases,
                                   const Control& control,
                                   const std::function<void(const AttentionResult&)>& on_result) {
  const std::unique_ptr<Backend> backend = make_backend(target.device, target.backend);
  const std::unique_ptr<BenchmarkHooks> hooks = backend->benchmark_hooks();
  for (size_t index = 0; index < cases.size(); ++index) {
    AttentionResult result = AttentionBench(target, cases[index], control).run();
    result.index = index;
    on_result(result);
  }
  return {hooks->machine(), hooks->memory_traffic(), hooks->times_are_meaningful()};
}

}  // namespace billfish::bench
