// Numbers of two operands by themselves. See operators_test.cc.
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

void check_SiluMul(OperatorBench& bench) {
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

void check_SigmoidMul(OperatorBench& bench) {
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

void check_Add(OperatorBench& bench) {
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
