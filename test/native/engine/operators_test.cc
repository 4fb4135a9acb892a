// Every operator on every backend against plain fp64 loops: one function each, which the list of operators asks for.
#include "engine/operators.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/attention_cases.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/operator_testing.h"

using namespace billfish;

// A new operator has its case here, or this does not compile.
#define BILLFISH_TEST(Name)                       \
  static void check_##Name(OperatorBench& bench); \
  TEST(operators_##Name) { on_every_backend(check_##Name); }
BILLFISH_BACKEND_OPERATORS(BILLFISH_TEST)
#undef BILLFISH_TEST

namespace {

constexpr ValueClass activation = ValueClass::activation, residual = ValueClass::residual;

struct Width {
  int64_t columns, gap;
};
// Rows that are read as whole vectors, and rows that cannot be; shorter than a vector, and of several pieces.
constexpr Width widths[] = {{1, 0},   {5, 3},    {8, 8},   {16, 3},   {31, 3},   {64, 0},
                            {130, 3}, {136, 24}, {200, 1}, {1100, 4}, {2048, 3}, {4104, 8}};

// Rows of tokens at these positions, each a sequence of its own.
Batch batch_at(const std::vector<int32_t>& positions) {
  Batch batch;
  batch.positions = positions;
  batch.tokens.resize(positions.size());
  for (size_t i = 0; i < positions.size(); ++i) batch.sequences.push_back({static_cast<int32_t>(i), 1, positions[i]});
  return batch;
}

}  // namespace

static void check_Embedding(OperatorBench& bench) {
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

// x / sqrt(mean(x^2) + eps) * weight over runs of weight.size() columns.
static std::vector<double> rms_norm_of(const std::vector<double>& x, const std::vector<float>& weight, double eps) {
  std::vector<double> out;
  for (size_t run = 0; run < x.size(); run += weight.size()) {
    double squares = 0;
    for (size_t c = 0; c < weight.size(); ++c) squares += x[run + c] * x[run + c];
    const double factor = 1 / std::sqrt(squares / static_cast<double>(weight.size()) + eps);
    for (size_t c = 0; c < weight.size(); ++c) out.push_back(x[run + c] * factor * weight[c]);
  }
  return out;
}

static void check_RmsNorm(OperatorBench& bench) {
  bench.prepare({});
  constexpr Tolerance tolerance{2e-6, 1e-7};
  for (const Width& width : widths) {
    const int64_t columns = width.columns;
    const std::vector<float> weight = random_floats(columns, 5);
    const Weight* const factors = bench.vector(weight);
    const Operand x = bench.put(residual, random_floats(3 * columns, 3, 5.0f), columns, width.gap);
    const Operand out = bench.room(activation, 3, columns, width.gap);
    bench.run(Call<RmsNorm>{x.tensor, factors, columns, 1e-6f, out.tensor});
    bench.check("rmsNorm", out, rms_norm_of(x.values, weight, 1e-6f), tolerance);
  }
  // Of heads, in place: several heads a warp, half a warp, a head beyond a warp's 256 columns, rows that are not
  // aligned.
  struct Heads {
    int64_t heads, head_dim, gap;
  };
  for (const Heads& c : {Heads{5, 32, 0}, Heads{3, 48, 8}, Heads{9, 128, 0}, Heads{2, 256, 16}, Heads{2, 264, 0},
                         Heads{3, 64, 5}, Heads{2, 20, 0}}) {
    const std::vector<float> weight = random_floats(c.head_dim, 7);
    const Weight* const factors = bench.vector(weight);
    const int64_t columns = c.heads * c.head_dim;
    const Operand x = bench.put(activation, random_floats(3 * columns, 6), columns, c.gap);
    bench.run(Call<RmsNorm>{x.tensor, factors, c.head_dim, 1e-5f, x.tensor});
    bench.check("rmsNorm of heads", x, rms_norm_of(x.values, weight, 1e-5f), tolerance);
  }
}

static void check_AddRmsNorm(OperatorBench& bench) {
  bench.prepare({});
  for (const Width& width : widths) {
    const int64_t columns = width.columns;
    const std::vector<float> weight = random_floats(columns, 5);
    const Weight* const factors = bench.vector(weight);
    const Operand x = bench.put(residual, random_floats(3 * columns, 3, 5.0f), columns, width.gap);
    const Operand y = bench.put(activation, random_floats(3 * columns, 4), columns);
    const Operand out = bench.room(activation, 3, columns, width.gap);
    std::vector<double> sums = x.values;
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += y.values[i];
    bench.run(Call<AddRmsNorm>{x.tensor, y.tensor, factors, 1e-6f, out.tensor});
    bench.check("x + y", x, sums, {1e-7, 1e-7});
    bench.check("addRmsNorm", out, rms_norm_of(sums, weight, 1e-6f), {2e-6, 1e-6});
  }
}

// `bias` may be empty.
static std::vector<double> layer_norm_of(const std::vector<double>& x, const std::vector<float>& weight,
                                         const std::vector<float>& bias, double eps) {
  const size_t columns = weight.size();
  std::vector<double> out;
  for (size_t row = 0; row < x.size(); row += columns) {
    double mean = 0, squares = 0;
    for (size_t c = 0; c < columns; ++c) mean += x[row + c] / static_cast<double>(columns);
    for (size_t c = 0; c < columns; ++c) squares += (x[row + c] - mean) * (x[row + c] - mean);
    const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + eps);
    for (size_t c = 0; c < columns; ++c) {
      out.push_back((x[row + c] - mean) * factor * weight[c] + (bias.empty() ? 0.0 : bias[c]));
    }
  }
  return out;
}

// Deviations of 1 beside means up to 10^5: of these a float has 7 digits, and the norm must lose none of the
// deviations'.
static void check_LayerNorm(OperatorBench& bench) {
  bench.prepare({});
  constexpr float means[] = {0, 100, -1e4f, 1e5f};
  constexpr float eps = 1e-5f;
  constexpr Tolerance tolerance{1e-6, 2e-6};
  for (const Width& width : widths) {
    const int64_t columns = width.columns;
    const std::vector<float> weight = random_floats(columns, 10), bias = random_floats(columns, 9);
    const Weight *const factors = bench.vector(weight), *const addends = bench.vector(bias);
    std::vector<float> x = random_floats(4 * columns, 8), near = random_floats(2 * columns, 7, 3.0f);
    for (size_t i = 0; i < x.size(); ++i) x[i] += means[i / static_cast<size_t>(columns)];
    for (float& value : near) value += 20;
    for (const bool with_bias : {false, true}) {
      const std::vector<float> b = with_bias ? bias : std::vector<float>();
      const Operand in = bench.put(residual, x, columns, width.gap);
      const Operand out = bench.room(activation, 4, columns, width.gap);
      bench.run(Call<LayerNorm>{in.tensor, factors, with_bias ? addends : nullptr, eps, out.tensor});
      bench.check("layerNorm", out, layer_norm_of(in.values, weight, b, eps), tolerance);
      const Operand both = bench.put(activation, near, columns, width.gap);
      bench.run(Call<LayerNorm>{both.tensor, factors, with_bias ? addends : nullptr, eps, both.tensor});
      bench.check("layerNorm in place", both, layer_norm_of(both.values, weight, b, eps), tolerance);
    }
    const Operand none = bench.room(residual, 0, columns), nothing = bench.room(activation, 0, columns);
    bench.run(Call<LayerNorm>{none.tensor, factors, nullptr, eps, nothing.tensor});
  }
}

// Matrices, of which one has a bias. (Quantized weights have tests of their own: cpu/linear_test.cc,
// cuda/kernels/gemm_test.cc.)
static void check_Linear(OperatorBench& bench) {
  for (const int64_t rows : {1, 3, 20}) {
    constexpr int64_t in = 72, outs[] = {40, 130};
    Program program;
    program.values = {{in, RowKind::tokens, activation},
                      {outs[0], RowKind::tokens, activation},
                      {outs[1], RowKind::tokens, residual}};
    program.operators = {Linear{0, {{0, 1}, {1, 2}}}};
    bench.prepare(program, {{"one", WeightKind::matrix, outs[0], in}, {"two", WeightKind::matrix, outs[1], in}});
    const std::vector<float> bias = random_floats(outs[1], 4);
    std::vector<std::vector<float>> values;
    std::vector<const Weight*> weights;
    for (const size_t i : {size_t{0}, size_t{1}}) {
      values.push_back(random_floats(outs[i] * in, static_cast<unsigned>(i), 20.0f));
      for (float& value : values[i]) value = std::clamp(std::round(value), -127.0f, 127.0f) / 64;
      weights.push_back(bench.matrix(values[i], outs[i], in, DType::f32, i == 1 ? bias : std::vector<float>()));
    }
    bench.finish();
    const Operand x = bench.put(activation, random_floats(rows * in, 3), in);
    const Operand results[] = {bench.room(activation, rows, outs[0]), bench.room(residual, rows, outs[1])};
    const std::vector<Call<LinearTarget>> targets = {{weights[0], results[0].tensor}, {weights[1], results[1].tensor}};
    bench.run(Call<Linear>{x.tensor, targets});
    for (const size_t i : {size_t{0}, size_t{1}}) {
      std::vector<double> wanted, magnitudes;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t n = 0; n < outs[i]; ++n) {
          double sum = 0, magnitude = 0;
          for (int64_t k = 0; k < in; ++k) {
            const double product =
                x.values[static_cast<size_t>(r * in + k)] * values[i][static_cast<size_t>(n * in + k)];
            sum += product;
            magnitude += std::abs(product);
          }
          wanted.push_back(sum + (i == 1 ? bias[static_cast<size_t>(n)] : 0.0f));
          magnitudes.push_back(magnitude);
        }
      }
      // A bias may be kept in the type of activations.
      const double bias_error =
          i == 1 && bench.activation_type() != DType::f32 ? 4 * rounding(bench.activation_type()) : 0;
      bench.check("linear", results[i], wanted, [&](size_t at) {
        return Tolerance{0, 1e-6 * magnitudes[at] + bias_error};
      });
    }
  }
}

static void check_Rope(OperatorBench& bench) {
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

static void check_LogNScale(OperatorBench& bench) {
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
static void check_Attention(OperatorBench& bench) {
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

static void check_CausalConv(OperatorBench& bench) {
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
static void check_GatedDeltaRule(OperatorBench& bench) {
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

static void check_SiluMul(OperatorBench& bench) {
  bench.prepare({});
  const auto wanted_of = [](const Operand& gate, const Operand& up) {
    std::vector<double> wanted;
    for (size_t i = 0; i < gate.values.size(); ++i) {
      wanted.push_back(gate.values[i] / (1 + std::exp(-gate.values[i])) * up.values[i]);
    }
    return wanted;
  };
  for (const Width& width : widths) {
    for (const int64_t rows : {0, 1, 3}) {
      std::vector<float> values = random_floats(rows * width.columns, 8, 4.0f);
      for (size_t i = 0; i < values.size(); i += 7) values[i] *= 20;  // far into both tails of the sigmoid
      const Operand gate = bench.put(activation, values, width.columns, width.gap);
      const Operand up = bench.put(activation, random_floats(rows * width.columns, 9), width.columns);
      bench.run(Call<SiluMul>{gate.tensor, up.tensor});
      bench.check("siluMul", gate, wanted_of(gate, up), {6e-7, 1e-34});
    }
  }
  // All of exp's range. Its error is 2e-7, and half a unit in the last place (6e-8) each that of the sum, the quotient
  // and the product.
  std::vector<float> values;
  for (float x = -87.0f; x < 87.0f; x += bench.activation_type() == DType::f32 ? 0.00731f : 0.0731f)
    values.push_back(-x);
  const auto columns = static_cast<int64_t>(values.size());
  const Operand gate = bench.put(activation, values, columns);
  const Operand up = bench.put(activation, std::vector<float>(values.size(), 1.0f), columns);
  bench.run(Call<SiluMul>{gate.tensor, up.tensor});
  bench.check("siluMul's exp", gate, wanted_of(gate, up), {3.8e-7, 0});

  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> extremes = {NAN, -3e4f, 3e4f, 0.0f, -0.0f, -100.0f, infinity, -90.0f, -88.6f, -1e5f, 1e5f};
  const Operand ends = bench.put(activation, extremes, static_cast<int64_t>(extremes.size()));
  const Operand ones = bench.put(activation, std::vector<float>(extremes.size(), 1.0f), ends.tensor.columns);
  bench.run(Call<SiluMul>{ends.tensor, ones.tensor});
  const std::vector<double> out = bench.read(ends);
  CHECK(std::isnan(out[0]));
  CHECK(out[1] == 0);
  CHECK(out[2] == ends.values[2]);
  CHECK(out[3] == 0);
  CHECK(out[4] == 0);
  CHECK(std::abs(out[5]) < 1e-35);
  CHECK(out[6] == infinity);
  CHECK(std::abs(out[7]) < 1e-30);
  if (bench.activation_type() != DType::f32) return;  // fp16 has no such numbers
  CHECK(std::abs(out[8] / (-88.6f / std::exp(static_cast<double>(88.6f))) - 1) < 1e-6);
  CHECK(out[9] == 0);
  CHECK(out[10] == 1e5f);
}

static void check_SigmoidMul(OperatorBench& bench) {
  bench.prepare({});
  for (const Width& width : widths) {
    const int64_t columns = width.columns;
    std::vector<float> gates = random_floats(3 * columns, 8, 4.0f);
    for (size_t i = 0; i < gates.size(); i += 7) gates[i] *= 20;
    for (const auto& [of_row, x_class] :
         {std::pair(false, activation), std::pair(true, activation), std::pair(true, ValueClass::residual)}) {
      const Operand x = bench.put(x_class, random_floats(3 * columns, 9), columns, width.gap);
      const Operand gate = of_row ? bench.put(ValueClass::logits, {gates.begin(), gates.begin() + 3}, 1, 3)
                                  : bench.put(activation, gates, columns);
      std::vector<double> wanted;
      for (size_t i = 0; i < x.values.size(); ++i) {
        const double g = gate.values[of_row ? i / static_cast<size_t>(columns) : i];
        wanted.push_back(x.values[i] / (1 + std::exp(-g)));
      }
      bench.run(Call<SigmoidMul>{x.tensor, gate.tensor});
      bench.check("sigmoidMul", x, wanted, {6e-7, 1e-34});
    }
  }
}

// Weights against a softmax in fp64. Which experts: in order, with equal logits, infinities and NaNs among them.
static void check_Route(OperatorBench& bench) {
  bench.prepare({});
  constexpr ValueClass logits = ValueClass::logits;
  struct Case {
    int64_t experts, top_k;
  };
  for (const Case& c : {Case{1, 1}, Case{6, 6}, Case{8, 3}, Case{60, 4}, Case{128, 8}, Case{513, 10}}) {
    std::vector<float> values = random_floats(5 * c.experts, static_cast<unsigned>(c.experts), 8.0f);
    if (c.experts > 2) values[1] = values[0];
    for (int64_t e = 0; e < c.experts; ++e) values[static_cast<size_t>(3 * c.experts + e)] = 2;  // all the same
    for (const int32_t normalize : {0, 1}) {
      const Operand x = bench.put(logits, values, c.experts, 3);
      const Operand out = bench.room(logits, 5, 2 * c.top_k, 1);
      bench.run(Call<Route>{x.tensor, out.tensor, static_cast<int32_t>(c.top_k), normalize});
      std::vector<double> wanted;
      for (int64_t row = 0; row < 5; ++row) {
        const double* const own = &x.values[static_cast<size_t>(row * c.experts)];
        std::vector<int64_t> order(static_cast<size_t>(c.experts));
        for (size_t e = 0; e < order.size(); ++e) order[e] = static_cast<int64_t>(e);
        std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return own[a] > own[b]; });
        order.resize(static_cast<size_t>(c.top_k));
        double all = 0, chosen = 0;
        for (int64_t e = 0; e < c.experts; ++e) all += std::exp(own[e] - own[order[0]]);
        for (const int64_t e : order) chosen += std::exp(own[e] - own[order[0]]);
        for (const int64_t e : order) wanted.push_back(static_cast<double>(e));
        for (const int64_t e : order)
          wanted.push_back(std::exp(own[e] - own[order[0]]) / (normalize != 0 ? chosen : all));
      }
      bench.check("route", out, wanted, {2e-6, 1e-30});
    }
  }
  const Operand x = bench.put(logits, {NAN, -INFINITY, 1, NAN, NAN, NAN, NAN, NAN}, 4);
  const Operand out = bench.room(logits, 2, 6);
  bench.run(Call<Route>{x.tensor, out.tensor, 3, 1});
  const std::vector<double> got = bench.read(out);
  CHECK(got[0] == 2);
  CHECK(std::isnan(got[6 + 3]));  // all of them NaN: three different experts, and weights that show it
  for (const size_t row : {size_t{0}, size_t{6}}) {
    for (const size_t j : {size_t{0}, size_t{1}, size_t{2}}) {
      CHECK(got[row + j] >= 0);
      CHECK(got[row + j] < 4);
      CHECK(got[row + j] != got[row + (j + 1) % 3]);
    }
  }
}

static void check_Combine(OperatorBench& bench) {
  bench.prepare({});
  for (const Width& width : widths) {
    for (const int64_t slots : {1, 3, 8}) {
      const int64_t columns = width.columns;
      const Operand x = bench.put(activation, random_floats(3 * slots * columns, 3), slots * columns);
      const Operand routing = bench.put(ValueClass::logits, random_floats(3 * 2 * slots, 4), 2 * slots, 2);
      for (const ValueClass kind : {activation, residual}) {
        const Operand out = bench.room(kind, 3, columns, width.gap);
        bench.run(Call<Combine>{x.tensor, routing.tensor, out.tensor});
        std::vector<double> wanted(static_cast<size_t>(3 * columns)), magnitudes(wanted.size());
        for (size_t i = 0; i < wanted.size(); ++i) {
          const size_t row = i / static_cast<size_t>(columns), column = i % static_cast<size_t>(columns);
          for (size_t j = 0; j < static_cast<size_t>(slots); ++j) {
            const double product =
                routing.values[(2 * row + 1) * static_cast<size_t>(slots) + j] *
                x.values[(row * static_cast<size_t>(slots) + j) * static_cast<size_t>(columns) + column];
            wanted[i] += product;
            magnitudes[i] += std::abs(product);
          }
        }
        bench.check("combine", out, wanted, [&](size_t i) { return Tolerance{0, 4e-7 * magnitudes[i] + 1e-34}; });
      }
    }
  }
}

// Of every expert: random, or with seed 0 natural.
static std::vector<int32_t> orders_of_experts(int32_t experts, int64_t in, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<int32_t> orders(static_cast<size_t>(experts * in));
  for (size_t i = 0; i < orders.size(); ++i) orders[i] = static_cast<int32_t>(i) % static_cast<int32_t>(in);
  for (auto own = orders.begin(); seed != 0 && own != orders.end(); own += in) {
    std::shuffle(own, own + in, random);
  }
  return orders;
}

// Experts 2 to 6 of 8, so that some slots have none. Two targets of different widths on one input, which a token's
// slots share or not; as matrices with a bias, and quantized, with act-order too.
static void check_GroupedLinear(OperatorBench& bench) {
  constexpr int32_t experts = 5, first = 2, all_experts = 8;
  struct Case {
    int64_t tokens, slots, in;
    int bits;
    int64_t group_size;
    bool zero_points;
    CodeType codes = CodeType::integer;
    bool has_order = false;
  };
  for (const Case& c :
       {Case{1, 1, 72, 16, 0, false}, Case{3, 2, 136, 16, 0, false}, Case{20, 3, 72, 16, 0, false},
        Case{1, 2, 256, 4, 128, false}, Case{30, 4, 192, 4, 32, true}, Case{34, 2, 144, 8, 144, false},
        Case{2, 3, 160, 8, 32, true}, Case{3, 2, 160, 8, 32, false, CodeType::e4m3},
        Case{24, 3, 256, 8, 128, false, CodeType::e4m3}, Case{2, 2, 144, 4, 16, false, CodeType::e2m1},
        Case{18, 3, 160, 4, 32, false, CodeType::e2m1}, Case{20, 4, 192, 4, 32, true, CodeType::integer, true},
        Case{2, 3, 328, 8, 64, false, CodeType::integer, true}}) {
    constexpr int64_t outs[] = {40, 130};
    const int64_t stored[] = {experts * expert_rows(outs[0]), experts * expert_rows(outs[1])};
    for (const bool is_shared : {true, false}) {
      const int64_t columns = is_shared ? c.in : c.slots * c.in;
      Program program;
      program.values = {{columns, RowKind::tokens, activation},
                        {2 * c.slots, RowKind::tokens, ValueClass::logits},
                        {c.slots * outs[0], RowKind::tokens, activation},
                        {c.slots * outs[1], RowKind::tokens, activation}};
      program.operators = {GroupedLinear{0, 1, {{0, 2}, {1, 3}}, first}};
      std::vector<WeightShape> shapes;
      for (const size_t i : {size_t{0}, size_t{1}}) {
        WeightShape shape{"experts", c.bits == 16 ? WeightKind::matrix : WeightKind::quantized, stored[i], c.in};
        shape.experts = experts;
        shape.expert_out = outs[i];
        shape.group_size = c.group_size;
        shape.bits = c.bits;
        shape.codes = c.codes;
        shape.has_zero_points = c.zero_points;
        shape.has_group_index = c.has_order;
        if (c.codes == CodeType::e2m1) {
          shape.has_output_scales = c.group_size == 16;
          shape.type = c.group_size == 16 ? DType::f8_e4m3 : DType::f8_e8m0;
        }
        shapes.push_back(shape);
      }
      bench.prepare(program, shapes);
      std::vector<std::vector<double>> values;   // [stored][in]
      std::vector<std::vector<int32_t>> orders;  // [experts][in]
      std::vector<const Weight*> weights;
      std::vector<float> bias;
      for (const size_t i : {size_t{0}, size_t{1}}) {
        orders.push_back(orders_of_experts(experts, c.in, c.has_order ? static_cast<unsigned>(i) + 1 : 0));
        if (c.bits == 16) {
          std::vector<float> numbers = random_floats(stored[i] * c.in, static_cast<unsigned>(i), 20.0f);
          for (float& value : numbers) value = std::clamp(std::round(value), -127.0f, 127.0f) / 64;
          if (i == 1) bias = random_floats(stored[i], 4);
          weights.push_back(bench.matrix(numbers, stored[i], c.in, DType::f32, bias));
          values.emplace_back(numbers.begin(), numbers.end());
        } else {
          values.emplace_back();
          CanonicalShape shape = canonical_shape(shapes[i]);
          if (c.has_order) shape.order = orders[i];
          weights.push_back(bench.quantized(shape, values.back()));
        }
      }
      bench.finish();
      const Operand x = bench.put(activation, random_floats(c.tokens * columns, 3), columns);
      std::vector<float> routes;
      for (int64_t token = 0; token < c.tokens; ++token) {
        for (int64_t j = 0; j < c.slots; ++j)
          routes.push_back(static_cast<float>((token * token + 3 * j) % all_experts));
        for (int64_t j = 0; j < c.slots; ++j) routes.push_back(0.5f);
      }
      const Operand routing = bench.put(ValueClass::logits, routes, 2 * c.slots);
      const Operand results[] = {
          bench.put(activation, std::vector<float>(static_cast<size_t>(c.tokens * c.slots * outs[0]), 7),
                    c.slots * outs[0]),
          bench.put(activation, std::vector<float>(static_cast<size_t>(c.tokens * c.slots * outs[1]), 7),
                    c.slots * outs[1])};
      const std::vector<Call<LinearTarget>> targets = {{weights[0], results[0].tensor},
                                                       {weights[1], results[1].tensor}};
      bench.run(Call<GroupedLinear>{x.tensor, routing.tensor, targets, first});
      for (const size_t i : {size_t{0}, size_t{1}}) {
        std::vector<double> wanted, magnitudes;
        for (int64_t token = 0; token < c.tokens; ++token) {
          for (int64_t j = 0; j < c.slots; ++j) {
            const auto expert = static_cast<int64_t>(routes[static_cast<size_t>(token * 2 * c.slots + j)]) - first;
            for (int64_t n = 0; n < outs[i]; ++n) {
              double sum = 0, magnitude = 0;
              if (expert >= 0 && expert < experts) {
                const int64_t row = expert * expert_rows(outs[i]) + n;
                if (i == 1 && !bias.empty()) sum = bias[static_cast<size_t>(row)];
                for (int64_t k = 0; k < c.in; ++k) {
                  const int64_t input = orders[i][static_cast<size_t>(expert * c.in + k)];
                  const double product =
                      x.values[static_cast<size_t>(token * columns + (is_shared ? 0 : j * c.in) + input)] *
                      values[i][static_cast<size_t>(row * c.in + k)];
                  sum += product;
                  magnitude += std::abs(product);
                }
              }
              wanted.push_back(sum);
              magnitudes.push_back(magnitude);
            }
          }
        }
        // A bias may be kept in the type of activations. Activations of the CPU's fast linears have 16 bits.
        const double bias_error =
            bias.empty() || bench.activation_type() == DType::f32 ? 0 : 4 * rounding(bench.activation_type());
        bench.check("groupedLinear", results[i], wanted, [&](size_t at) {
          return Tolerance{0, 1e-6 * magnitudes[at] + bias_error};
        });
      }
    }
  }
}

static void check_Add(OperatorBench& bench) {
  bench.prepare({});
  for (const Width& width : widths) {
    for (const int64_t rows : {0, 1, 3}) {
      const Operand x = bench.put(residual, random_floats(rows * width.columns, 8, 4.0f), width.columns, width.gap);
      const Operand y = bench.put(activation, random_floats(rows * width.columns, 9), width.columns);
      std::vector<double> sums = x.values;
      for (size_t i = 0; i < sums.size(); ++i) sums[i] += y.values[i];
      bench.run(Call<Add>{x.tensor, y.tensor});
      bench.check("add", x, sums, {1e-7, 1e-7});
    }
  }
}

static void check_Gather(OperatorBench& bench) {
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
