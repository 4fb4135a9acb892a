// Norms. See operators_test.cc.
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

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

void check_RmsNorm(OperatorBench& bench) {
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

void check_AddRmsNorm(OperatorBench& bench) {
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
void check_LayerNorm(OperatorBench& bench) {
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
