// Operators that keep a state of every sequence. See operators_test.cc.
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

// New rows of two sequences in each step: prompts in pieces, one alone, and single tokens. The third begins anew in the
// slot of the first.
struct RecurrentStep {
  int32_t rows[2];
  int32_t past[2];
};
constexpr RecurrentStep recurrent_steps[] = {{{0, 19}, {0, 0}}, {{5, 1}, {0, 19}}, {{1, 1}, {5, 20}},
                                             {{2, 3}, {6, 21}}, {{2, 0}, {0, 0}},  {{20, 1}, {2, 24}}};

static Batch batch_of(const RecurrentStep& step) {
  static constexpr int32_t slots[] = {2, 0}, blocks[] = {0, 1, 2};
  Batch batch;
  for (const int s : {0, 1}) {
    if (step.rows[s] == 0) continue;
    batch.sequences.push_back({batch.rows(), step.rows[s], step.past[s], blocks, 3, 0, slots[s]});
    for (int32_t i = 0; i < step.rows[s]; ++i) {
      batch.tokens.push_back(0);
      batch.positions.push_back(step.past[s] + i);
    }
  }
  return batch;
}

void check_CausalConv(OperatorBench& bench) {
  struct Case {
    int64_t columns, gap;
    int32_t taps;
  };
  for (const Case& c : {Case{1, 0, 2}, Case{24, 8, 4}, Case{37, 3, 4}, Case{1100, 4, 4}, Case{64, 0, 9}}) {
    Program program;
    program.values = {{c.columns, RowKind::tokens, activation}, {c.columns, RowKind::tokens, activation}};
    program.state_layers = {{c.columns * (c.taps - 1)}};
    program.operators = {CausalConv{0, 0, 1, 0, c.taps}};
    bench.prepare(program, {{"conv1d", WeightKind::vector, c.columns * c.taps, 1}});
    const std::vector<float> factors = random_floats(c.columns * c.taps, 1);
    const Weight* const weight = bench.vector(factors);
    const LayerState state = bench.state(c.columns * (c.taps - 1));
    std::vector<double> histories[3];  // by slot
    unsigned seed = 1;
    for (const RecurrentStep& step : recurrent_steps) {
      const Batch batch = batch_of(step);
      bench.begin(batch);
      const Operand x = bench.put(activation, random_floats(batch.rows() * c.columns, ++seed), c.columns, c.gap);
      const Operand out = bench.room(activation, batch.rows(), c.columns, c.gap);
      std::vector<double> wanted;
      for (const SequenceSpan& span : batch.sequences) {
        std::vector<double>& history = histories[span.slot];
        if (span.past == 0) history.clear();
        const auto begin = x.values.begin() + span.first_row * c.columns;
        history.insert(history.end(), begin, begin + span.rows * c.columns);
        for (int64_t row = span.past; row < span.past + span.rows; ++row) {
          for (int64_t column = 0; column < c.columns; ++column) {
            double sum = 0;
            for (int32_t j = 0; j < c.taps; ++j) {
              const int64_t at = row - (c.taps - 1) + j;
              if (at < 0) continue;
              sum += factors[static_cast<size_t>(column * c.taps + j)] *
                     history[static_cast<size_t>(at * c.columns + column)];
            }
            wanted.push_back(sum / (1 + std::exp(-sum)));
          }
        }
      }
      bench.run(Call<CausalConv>{x.tensor, weight, out.tensor, state, c.taps});
      bench.check("causalConv", out, wanted, {2e-6, 2e-6});
    }
  }
}

// Prompts long enough for several chunks of 32 tokens, whole and cut, beside others and single tokens.
constexpr RecurrentStep prompt_steps[] = {{{97, 0}, {0, 0}},  {{1, 16}, {97, 0}},  {{15, 31}, {98, 16}},
                                          {{33, 1}, {0, 47}}, {{32, 64}, {33, 0}}, {{1, 159}, {65, 64}}};

// Keys that are far from each other's direction, and nearly the same; states that decay at once, and never.
void check_GatedDeltaRule(OperatorBench& bench) {
  constexpr ValueClass logits = ValueClass::logits;
  struct Case {
    int32_t heads, key_heads;
    int64_t key_dim, value_dim, gap;
  };
  std::vector<RecurrentStep> steps(std::begin(recurrent_steps), std::end(recurrent_steps));
  steps.insert(steps.end(), std::begin(prompt_steps), std::end(prompt_steps));
  // GPUs take prompts in chunks where rows of keys can be read as vectors, and have at most 128 columns.
  for (const Case& c : {Case{1, 1, 1, 1, 0}, Case{6, 2, 24, 16, 3}, Case{4, 2, 16, 24, 8}, Case{2, 1, 128, 40, 0},
                        Case{2, 2, 40, 33, 0}, Case{1, 1, 128, 32, 3}, Case{1, 1, 200, 8, 0}}) {
    const int64_t keys = c.key_heads * c.key_dim, values = c.heads * c.value_dim, width = c.key_dim * values;
    Program program;
    program.values = {{keys, RowKind::tokens, activation},   {keys, RowKind::tokens, activation},
                      {values, RowKind::tokens, activation}, {c.heads, RowKind::tokens, logits},
                      {c.heads, RowKind::tokens, logits},    {values, RowKind::tokens, activation}};
    program.state_layers = {{width}};
    program.operators = {GatedDeltaRule{0, 1, 2, 3, 4, 0, 1, 5, 0, c.heads, c.key_heads}};
    bench.prepare(program, {{"dt_bias", WeightKind::vector, c.heads, 1}, {"A_log", WeightKind::vector, c.heads, 1}});
    const std::vector<float> bias = random_floats(c.heads, 1, 3.0f), log_decay = random_floats(c.heads, 2, 2.0f);
    const Weight *const biases = bench.vector(bias), *const decays = bench.vector(log_decay);
    const LayerState state = bench.state(width);
    std::vector<double> states[3];  // by slot
    unsigned seed = 10;
    for (const RecurrentStep& step : steps) {
      const Batch batch = batch_of(step);
      bench.begin(batch);
      const int64_t rows = batch.rows();
      std::vector<float> alike = random_floats(rows * keys, ++seed);
      for (size_t i = static_cast<size_t>(keys); i < alike.size(); ++i) {
        alike[i] = alike[i % static_cast<size_t>(keys)] + 0.3f * alike[i];
      }
      const Operand q = bench.put(activation, random_floats(rows * keys, ++seed), keys, c.gap);
      const Operand k = bench.put(activation, alike, keys, c.gap);
      const Operand v = bench.put(activation, random_floats(rows * values, ++seed), values);
      const Operand a = bench.put(logits, random_floats(rows * c.heads, ++seed, 8.0f), c.heads, 1);
      const Operand b = bench.put(logits, random_floats(rows * c.heads, ++seed, 4.0f), c.heads);
      const Operand out = bench.room(activation, rows, values, c.gap);
      std::vector<double> wanted(static_cast<size_t>(rows * values));
      for (const SequenceSpan& span : batch.sequences) {
        std::vector<double>& s = states[span.slot];
        if (span.past == 0) s.assign(static_cast<size_t>(width), 0);
        for (int64_t row = span.first_row; row < span.first_row + span.rows; ++row) {
          for (int64_t head = 0; head < c.heads; ++head) {
            const auto gate = static_cast<size_t>(row * c.heads + head), h = static_cast<size_t>(head);
            const double decay = std::exp(-std::exp(static_cast<double>(log_decay[h])) *
                                          std::log1p(std::exp(a.values[gate] + static_cast<double>(bias[h]))));
            const double beta = 1 / (1 + std::exp(-b.values[gate]));
            const auto first = static_cast<size_t>(row * keys + head / (c.heads / c.key_heads) * c.key_dim);
            const auto normalized = [&](const Operand& x) {
              double squares = 0;
              std::vector<double> one;
              for (size_t i = 0; i < static_cast<size_t>(c.key_dim); ++i) one.push_back(x.values[first + i]);
              for (const double value : one) squares += value * value;
              for (double& value : one) value /= std::sqrt(squares + 1e-6);
              return one;
            };
            const std::vector<double> key = normalized(k), query = normalized(q);
            for (int64_t column = 0; column < c.value_dim; ++column) {
              const auto at = [&](int64_t i) -> double& {
                return s[static_cast<size_t>((head * c.key_dim + i) * c.value_dim + column)];
              };
              double found = 0, read = 0;
              for (int64_t i = 0; i < c.key_dim; ++i) at(i) *= decay, found += key[static_cast<size_t>(i)] * at(i);
              const auto place = static_cast<size_t>(row * values + head * c.value_dim + column);
              const double lacking = beta * (v.values[place] - found);
              for (int64_t i = 0; i < c.key_dim; ++i) {
                at(i) += key[static_cast<size_t>(i)] * lacking;
                read += query[static_cast<size_t>(i)] * at(i);
              }
              wanted[place] = read / std::sqrt(static_cast<double>(c.key_dim));
            }
          }
        }
      }
      bench.run(Call<GatedDeltaRule>{q.tensor, k.tensor, v.tensor, a.tensor, b.tensor, biases, decays, out.tensor,
                                     state, c.heads, c.key_heads});
      bench.check("gatedDeltaRule", out, wanted, {2e-6, 3e-6});
      // States are fp32, and in chunks computed from sums of two elements: of bfloat16, they have 16 bits.
      const double bits = bench.activation_type() == DType::bf16 ? 0x1p-16 : 0;
      for (const SequenceSpan& span : batch.sequences) {
        const Operand kept{{state.data + span.slot * width, DType::f32, 1, width, width}, {}};
        bench.check("states of gatedDeltaRule", kept, states[span.slot], {2e-6, 3e-6 + bits});
      }
    }
  }
}
