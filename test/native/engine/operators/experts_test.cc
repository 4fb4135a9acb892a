// Mixtures of experts. See operators_test.cc.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "support/operator_cases.h"

using namespace billfish;

// Weights against a softmax in fp64. Which experts: in order, with equal logits, infinities and NaNs among them.
void check_Route(OperatorBench& bench) {
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
  // A NaN, even one that would not be chosen: three different experts, and weights that show it.
  const Operand x = bench.put(logits, {1, -INFINITY, NAN, 2, INFINITY, 3, 2, NAN, NAN, NAN, NAN, NAN}, 4);
  const Operand out = bench.room(logits, 3, 6);
  bench.run(Call<Route>{x.tensor, out.tensor, 3, 1});
  const std::vector<double> got = bench.read(out);
  for (const size_t row : {size_t{0}, size_t{6}, size_t{12}}) {
    for (const size_t j : {size_t{0}, size_t{1}, size_t{2}}) {
      CHECK(std::isnan(got[row + 3 + j]));
      CHECK(got[row + j] >= 0);
      CHECK(got[row + j] < 4);
      CHECK(got[row + j] != got[row + (j + 1) % 3]);
    }
  }
}

void check_Combine(OperatorBench& bench) {
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
void check_GroupedLinear(OperatorBench& bench) {
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
