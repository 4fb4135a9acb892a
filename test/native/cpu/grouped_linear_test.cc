// Linears of experts with activations of 16-bit codes: the same as a linear of each expert. (In fp32 they are compared
// with fp64 loops in engine/operators_test.cc.)
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "cpu/cpu_backend.h"
#include "engine/operators.h"
#include "engine/random_weights.h"
#include "support/check.h"
#include "support/every_instruction_set.h"
#include "support/kernel_numbers.h"
#include "support/linear_cases.h"

using namespace billfish;
using linear_test::all_codes;
using linear_test::Codes;
using linear_test::may_have_zero_points;

namespace {

constexpr int64_t experts = 6, out = 72, in = 256;

CanonicalShape shape_of_rows(int64_t rows, const Codes& codes, bool zero_points) {
  CanonicalShape shape;
  shape.name = "experts";
  shape.bits = codes.bits;
  shape.codes = codes.type;
  shape.out = rows;
  shape.in = in;
  shape.group_size = 64;
  shape.has_zero_points = zero_points;
  if (codes.type == CodeType::e2m1) {
    shape.scale_type = DType::f8_e4m3;
    shape.has_output_scales = true;
  }
  return shape;
}

// Rows [first, first + count) of the source, as rows 0 to count - 1.
void fill(Backend& backend, Weight& weight, const CanonicalSource& source, int64_t first, int64_t count) {
  CanonicalRows rows;
  for (int64_t row = 0; row < count; row += Backend::row_slab) {
    source.read(first + row, std::min(Backend::row_slab, count - row), rows);
    rows.first = row;
    backend.fill_quantized(weight, rows);
  }
}

void check_tokens(int64_t tokens, int64_t slots, const Codes& codes, bool zero_points) {
  const auto backend = cpu::make_cpu_backend({"cpu", cpu::Precision::fast, DType::f16});
  const CanonicalShape stack = shape_of_rows(experts * expert_rows(out), codes, zero_points);
  Program program;
  program.values = {{in, RowKind::tokens, ValueClass::activation},
                    {2 * slots, RowKind::tokens, ValueClass::logits},
                    {slots * out, RowKind::tokens, ValueClass::activation},
                    {out, RowKind::tokens, ValueClass::activation},
                    {1, RowKind::logits, ValueClass::logits}};
  program.operators = {GroupedLinear{0, 1, {{0, 2}}, 0}, Linear{0, {{1, 3}}}};
  program.output = 4;
  WeightShape of_experts{"experts",  WeightKind::quantized, stack.out, in, stack.group_size, false, codes.bits,
                         zero_points};
  of_experts.codes = codes.type;
  of_experts.type = stack.scale_type;
  of_experts.has_output_scales = stack.has_output_scales;
  of_experts.experts = experts;
  of_experts.expert_out = out;
  WeightShape of_one{"one", WeightKind::quantized, out, in, stack.group_size, false, codes.bits, zero_points};
  of_one.codes = codes.type;
  of_one.type = stack.scale_type;
  of_one.has_output_scales = stack.has_output_scales;
  backend->prepare(program, {of_experts, of_one}, {16, 64, static_cast<int32_t>(tokens), 16});

  const auto source = random_quantized(stack);
  const auto all = backend->make_quantized(stack);
  fill(*backend, *all, *source, 0, stack.out);
  std::vector<std::unique_ptr<Weight>> ones;
  for (int64_t e = 0; e < experts; ++e) {
    ones.push_back(backend->make_quantized(shape_of_rows(out, codes, zero_points)));
    fill(*backend, *ones.back(), *source, e * expert_rows(out), out);
  }

  const auto tensor = [](std::vector<float>& values, int64_t columns) {
    return Tensor{values.data(), DType::f32, static_cast<int64_t>(values.size()) / columns, columns, columns};
  };
  std::vector<float> x = random_floats(tokens * in, 1, 2.0f), routes;
  for (int64_t token = 0; token < tokens; ++token) {
    for (int64_t j = 0; j < slots; ++j) routes.push_back(static_cast<float>((token / 3 + j) % experts));
    routes.insert(routes.end(), static_cast<size_t>(slots), 1.0f);
  }
  std::vector<float> results(static_cast<size_t>(tokens * slots * out)), one(static_cast<size_t>(tokens * out));
  const std::vector<Call<LinearTarget>> targets = {{all.get(), tensor(results, slots * out)}};
  backend->run(Call<GroupedLinear>{tensor(x, in), tensor(routes, 2 * slots), targets, 0});
  int64_t wrong = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const std::vector<Call<LinearTarget>> alone = {{ones[static_cast<size_t>(e)].get(), tensor(one, out)}};
    backend->run(Call<Linear>{tensor(x, in), alone});
    for (int64_t token = 0; token < tokens; ++token) {
      for (int64_t j = 0; j < slots; ++j) {
        if (routes[static_cast<size_t>(token * 2 * slots + j)] != static_cast<float>(e)) continue;
        for (int64_t n = 0; n < out; ++n) {
          const float got = results[static_cast<size_t>((token * slots + j) * out + n)];
          wrong += !(std::abs(got - one[static_cast<size_t>(token * out + n)]) <= 2e-6f);  // sums in another order
        }
      }
    }
  }
  CHECK_MESSAGE(wrong == 0, wrong << " results of " << tokens << " tokens, " << slots << " slots and " << codes.bits
                                  << " bits are not those of the experts alone");
}

}  // namespace

TEST(grouped_linear_gives_what_each_expert_alone_gives) {
  on_every_instruction_set([] {
    for (const Codes& codes : all_codes) {
      for (const bool zero_points : {false, true}) {
        if (zero_points && !may_have_zero_points(codes)) continue;
        check_tokens(1, 2, codes, zero_points);
        check_tokens(9, 3, codes, zero_points);
        check_tokens(300, 2, codes, zero_points);
      }
    }
  });
}

// More slots than are sorted at a time.
TEST(grouped_linear_takes_many_tokens_in_pieces) { check_tokens(3000, 6, {4}, false); }
