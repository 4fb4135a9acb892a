// Linears. See operators_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

// Matrices, of which one has a bias. (Quantized weights have tests of their own: cpu/linear_test.cc,
// cuda/kernels/gemm_test.cc.)
void check_Linear(OperatorBench& bench) {
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
