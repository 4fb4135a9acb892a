// Attention, and what happens to positions before it. See operators_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/attention_cases.h"
#include "support/operator_cases.h"

using namespace billfish;

void check_Rope(OperatorBench& bench) {
  for (const int32_t head_dim : {8, 48, 80, 128}) {
    const int64_t half = head_dim / 2 - (head_dim == 80 ? 8 : head_dim == 48 ? 3 : 0);  // partial rotations
    constexpr int32_t heads = 3;
    Program program;
    program.ropes = {{{1.0f}, 1}, {{}, 1.25f}};
    RopeSpec& rope = program.ropes[1];
    for (int64_t i = 0; i < half; ++i) {
      rope.inverse_frequency.push_back(std::pow(10000.0f, -static_cast<float>(i) / static_cast<float>(half)));
    }
    const std::vector<float> frequencies = rope.inverse_frequency;
    bench.prepare(program);
    Batch batch = batch_at({0, 1, 7, 1000, 32000});
    batch.sequences[3].rope_base = 27500.5;
    bench.begin(batch);
    const int64_t columns = heads * head_dim;
    for (const int64_t gap : {0, 3}) {
      const Operand x = bench.put(activation, random_floats(batch.rows() * columns, 10), columns, gap);
      std::vector<double> wanted = x.values, errors(wanted.size());
      for (size_t first = 0; first < wanted.size(); first += static_cast<size_t>(head_dim)) {
        const size_t row = first / static_cast<size_t>(columns);
        for (int64_t i = 0; i < half; ++i) {
          const bool own = row == 3;
          const double frequency = own ? std::pow(27500.5, -static_cast<double>(i) / static_cast<double>(half))
                                       : frequencies[static_cast<size_t>(i)];
          const double angle = batch.positions[row] * frequency;
          const double c = 1.25 * std::cos(angle), s = 1.25 * std::sin(angle);
          const size_t one = first + static_cast<size_t>(i), two = one + static_cast<size_t>(half);
          const double x1 = x.values[one], x2 = x.values[two];
          wanted[one] = x1 * c - x2 * s;
          wanted[two] = x2 * c + x1 * s;
          // The angle is fp32; of a base of its own the exponent is, too, which its logarithm magnifies.
          const double error = 1.25 * (std::abs(x1) + std::abs(x2)) * (1e-6 + angle * (own ? 1e-6 : 1.2e-7));
          errors[one] = errors[two] = error;
        }
      }
      bench.run(Call<Rope>{x.tensor, heads, head_dim, 1});
      bench.check("rope", x, wanted, [&](size_t i) { return Tolerance{1e-6, errors[i]}; });
    }
  }
}

void check_LogNScale(OperatorBench& bench) {
  bench.prepare({});
  const Batch batch = batch_at({5, 2047, 2048, 8000});
  const double factors[] = {1, 1, std::log(2049.0) / std::log(2048.0), std::log(8001.0) / std::log(2048.0)};
  bench.begin(batch);
  for (const Width& width : {Width{37, 2}, Width{136, 8}}) {
    const Operand x = bench.put(activation, random_floats(4 * width.columns, 11), width.columns, width.gap);
    std::vector<double> wanted = x.values;
    for (size_t i = 0; i < wanted.size(); ++i) wanted[i] *= factors[i / static_cast<size_t>(width.columns)];
    bench.run(Call<LogNScale>{x.tensor, 2048});
    bench.check("logNScale", x, wanted, {2e-7, 0});
  }
}

// A prompt beside a sequence that goes on, with grouped heads: without a window, with one, and with all keys seen.
// (cpu/attention_test.cc and cuda/kernels/attention_test.cc have long sequences, splits and all head sizes.)
void check_Attention(OperatorBench& bench) {
  constexpr int32_t heads = 4, kv_heads = 2, head_dim = 16;
  constexpr int64_t columns = heads * head_dim, kv_columns = kv_heads * head_dim;
  constexpr float scale = 0.25f;
  struct Case {
    int32_t window, bidirectional;
  };
  for (const auto& [window, bidirectional] : {Case{0, 0}, Case{7, 0}, Case{0, 1}}) {
    Program program;
    program.values = {{columns, RowKind::tokens, activation},
                      {kv_columns, RowKind::tokens, activation},
                      {kv_columns, RowKind::tokens, activation},
                      {columns, RowKind::tokens, activation}};
    program.cache_layers = {{kv_heads, head_dim}};
    program.operators = {Attention{0, 1, 2, 3, 0, heads, scale, window, bidirectional}};
    bench.prepare(program);
    const StageLimits& limits = OperatorBench::limits;
    const size_t bytes = static_cast<size_t>(limits.positions() * kv_columns) * byte_size(bench.backend().cache_type());
    const auto cache = [&] { return bench.backend().allocate(bytes, MemoryUse::kv_cache); };
    const LayerCache layer{cache(), cache(), limits.block_size, kv_heads, head_dim};
    struct History {
      std::vector<double> keys, values;
    };
    History histories[2];
    const std::vector<int32_t> tables[2] = {{3, 1}, {7, 0}};
    // New rows of the two sequences in each step.
    const int32_t steps[][2] = {{0, 19}, {5, 1}, {1, 1}, {2, 3}};
    unsigned seed = 0;
    for (const auto& rows : steps) {
      Batch batch;
      for (const size_t s : {size_t{0}, size_t{1}}) {
        if (rows[s] == 0) continue;
        const auto past = static_cast<int32_t>(histories[s].keys.size()) / static_cast<int32_t>(kv_columns);
        batch.sequences.push_back({batch.rows(), rows[s], past, tables[s].data(), 2});
        for (int32_t i = 0; i < rows[s]; ++i) {
          batch.tokens.push_back(0);
          batch.positions.push_back(past + i);
        }
      }
      bench.begin(batch);
      const Operand q = bench.put(activation, random_floats(batch.rows() * columns, ++seed), columns);
      const Operand k = bench.put(activation, random_floats(batch.rows() * kv_columns, ++seed), kv_columns);
      const Operand v = bench.put(activation, random_floats(batch.rows() * kv_columns, ++seed), kv_columns);
      const Operand out = bench.room(activation, batch.rows(), columns);
      std::vector<double> wanted(out.values.size());
      for (const SequenceSpan& span : batch.sequences) {
        History& history = histories[span.blocks == tables[1].data() ? 1 : 0];
        const auto begin = static_cast<ptrdiff_t>(span.first_row * kv_columns), end = begin + span.rows * kv_columns;
        history.keys.insert(history.keys.end(), k.values.begin() + begin, k.values.begin() + end);
        history.values.insert(history.values.end(), v.values.begin() + begin, v.values.begin() + end);
        for (int32_t i = 0; i < span.rows; ++i) {
          const int32_t position = span.past + i;
          for (int32_t head = 0; head < heads; ++head) {
            const size_t at = static_cast<size_t>((span.first_row + i) * columns + head * head_dim);
            const auto kv_at = [&](int64_t key, int32_t c) {
              return static_cast<size_t>(key * kv_columns + head / (heads / kv_heads) * head_dim + c);
            };
            const attention_test::HeadOutput one = attention_test::attend(
                head_dim, scale, attention_test::first_key(position, window),
                bidirectional == 1 ? span.past + span.rows - 1 : position,
                [&](int column) { return q.values[at + static_cast<size_t>(column)]; },
                [&](int64_t key, int column) { return history.keys[kv_at(key, column)]; },
                [&](int64_t key, int column) { return history.values[kv_at(key, column)]; });
            std::copy(one.values.begin(), one.values.end(), wanted.begin() + static_cast<ptrdiff_t>(at));
          }
        }
      }
      bench.run(Call<Attention>{q.tensor, k.tensor, v.tensor, out.tensor, layer, heads, scale, window, bidirectional});
      // Weights of 16 bits, on values that are up to 4.
      const bool fp32 = bench.activation_type() == DType::f32;
      bench.check("attention", out, wanted, {1e-5, fp32 ? 1e-5 : 4 * rounding(bench.activation_type())});
    }
  }
}
