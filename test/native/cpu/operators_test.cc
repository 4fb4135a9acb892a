// The row-by-row operators against plain fp64 loops, on every instruction set that this processor has.
#include "cpu/operators.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "cpu/features.h"
#include "cpu/row_kernels.h"
#include "support/check.h"
#include "support/every_instruction_set.h"
#include "support/norm_reference.h"

using namespace billfish;
using namespace billfish::cpu;

namespace {

std::vector<float> random_floats(int64_t count, unsigned seed, float scale = 1.0f) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<size_t>(count));
  for (float& value : values) value = normal(generator);
  return values;
}

// Wherever a row is written, the gap to the next row must stay as it was.
constexpr float untouched = -12345.0f;
constexpr int64_t gap = 3;

void check_rows(const std::vector<float>& got, const std::vector<double>& wanted, int64_t columns, double relative,
                double absolute) {
  const int64_t stride = columns + gap;
  for (size_t i = 0; i < got.size(); ++i) {
    const int64_t r = static_cast<int64_t>(i) / stride, c = static_cast<int64_t>(i) % stride;
    if (c >= columns) {
      CHECK_MESSAGE(got[i] == untouched, "row " << r << " was written beyond column " << columns);
      continue;
    }
    const double want = wanted[static_cast<size_t>(r * columns + c)];
    CHECK_MESSAGE(std::abs(got[i] - want) <= relative * std::abs(want) + absolute,
                  name(instruction_set()) << ": (" << r << ", " << c << ") is " << got[i] << ", not " << want);
  }
}

std::vector<float> strided(const std::vector<float>& dense, int64_t columns) {
  std::vector<float> rows;
  for (size_t i = 0; i < dense.size(); i += static_cast<size_t>(columns)) {
    rows.insert(rows.end(), dense.begin() + static_cast<int64_t>(i), dense.begin() + static_cast<int64_t>(i) + columns);
    rows.insert(rows.end(), gap, untouched);
  }
  return rows;
}

constexpr int64_t widths[] = {1, 5, 8, 16, 31, 64, 130, 896, 2048};

}  // namespace

TEST(operators_embedding) {
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const int64_t columns : {7, 64, 130}) {
      const std::vector<float> values = random_floats(20 * columns, 1);
      std::vector<float> rounded = values;
      std::vector<uint16_t> halves(values.size());
      for (size_t i = 0; i < values.size() && type != DType::f32; ++i) {
        halves[i] = type == DType::f16 ? float_to_f16(values[i]) : float_to_bf16(values[i]);
        rounded[i] = type == DType::f16 ? f16_to_float(halves[i]) : bf16_to_float(halves[i]);
      }
      Matrix table;
      table.type = type;
      table.out = 20;
      table.in = columns;
      table.data = type == DType::f32 ? static_cast<const void*>(values.data()) : halves.data();
      const std::vector<int32_t> ids = {19, 0, 7, 7, 3};
      std::vector<double> wanted;
      for (const int32_t id : ids)
        wanted.insert(wanted.end(), &rounded[id * columns], &rounded[id * columns] + columns);
      on_every_instruction_set([&] {
        std::vector<float> out(ids.size() * static_cast<size_t>(columns + gap), untouched);
        embedding(table, 0, ids.data(), 5, out.data(), columns + gap, pool());
        check_rows(out, wanted, columns, 0, 0);
        // The same rows as those of later tokens; tokens before and after them have none.
        const std::vector<int32_t> later = {29, 10, 17, 9, 30};
        std::vector<double> shifted = wanted;
        std::fill(shifted.begin() + 3 * columns, shifted.end(), 0.0);
        embedding(table, 10, later.data(), 5, out.data(), columns + gap, pool());
        check_rows(out, shifted, columns, 0, 0);
      });
    }
  }
}

TEST(operators_narrow_saturates_and_rounds_like_the_reference_and_hides_no_infinity) {
  std::vector<float> values = random_floats(3000, 2, 100.0f);
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float special : {0.0f, -0.0f, infinity, -infinity, 65504.0f, 65519.9f, 65520.0f, -1e6f, 3.4e38f, -3.4e38f,
                              1e-8f, 6e-8f, -3e-5f, 1e-40f, 2049.0f, 2051.0f, 1.00390625f, 1.01171875f}) {
    values.push_back(special);
  }
  const float largest_bf16 = bf16_to_float(0x7f7f);
  on_every_instruction_set([&] {
    const int64_t count = static_cast<int64_t>(values.size());
    std::vector<uint16_t> f16(values.size()), bf16(values.size());
    row_kernels().narrow(DType::f16, values.data(), count, f16.data());
    row_kernels().narrow(DType::bf16, values.data(), count, bf16.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if (std::isinf(values[i])) {
        CHECK(std::isnan(f16_to_float(f16[i])));
        CHECK(std::isnan(bf16_to_float(bf16[i])));
        continue;
      }
      CHECK(f16[i] == float_to_f16(std::clamp(values[i], -65504.0f, 65504.0f)));
      CHECK(bf16[i] == float_to_bf16(std::clamp(values[i], -largest_bf16, largest_bf16)));
    }
    // Every 16-bit value comes back as itself; NaN as some NaN.
    std::vector<uint16_t> all(65536), again(65536);
    std::vector<float> wide(65536);
    for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
    for (const DType type : {DType::f16, DType::bf16}) {
      row_kernels().widen(type, all.data(), 65536, wide.data());
      row_kernels().narrow(type, wide.data(), 65536, again.data());
      for (size_t i = 0; i < all.size(); ++i) {
        const float exact = type == DType::f16 ? f16_to_float(all[i]) : bf16_to_float(all[i]);
        const float back = type == DType::f16 ? f16_to_float(again[i]) : bf16_to_float(again[i]);
        if (std::isnan(exact)) {
          CHECK(std::isnan(wide[i]));
          CHECK(std::isnan(back));
        } else if (std::isinf(exact)) {
          CHECK(wide[i] == exact);
          CHECK(std::isnan(back));
        } else {
          CHECK(float_to_bits(wide[i]) == float_to_bits(exact));
          CHECK(again[i] == all[i]);
        }
      }
    }
  });
}

TEST(operators_rms_norm) {
  for (const int64_t columns : widths) {
    const int64_t rows = 7;
    const std::vector<float> x = random_floats(rows * columns, 3, 5.0f), y = random_floats(rows * columns, 4);
    const std::vector<float> weight = random_floats(columns, 5);
    for (const bool with_add : {false, true}) {
      std::vector<double> wanted, sums;
      for (int64_t r = 0; r < rows; ++r) {
        double squares = 0;
        for (int64_t c = 0; c < columns; ++c) {
          const size_t i = static_cast<size_t>(r * columns + c);
          sums.push_back(static_cast<double>(x[i]) + (with_add ? y[i] : 0.0f));
          squares += sums.back() * sums.back();
        }
        const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + 1e-6);
        for (int64_t c = 0; c < columns; ++c) {
          wanted.push_back(sums[static_cast<size_t>(r * columns + c)] * factor * weight[static_cast<size_t>(c)]);
        }
      }
      on_every_instruction_set([&] {
        std::vector<float> in = strided(x, columns), out(in.size(), untouched);
        const int64_t stride = columns + gap;
        if (with_add) {
          add_rms_norm(in.data(), stride, {y.data(), rows, columns, columns}, weight.data(), 1e-6f, out.data(), stride,
                       pool());
          check_rows(in, sums, columns, 1e-6, 1e-6);
        } else {
          rms_norm({in.data(), rows, columns, stride}, weight.data(), columns, 1e-6f, out.data(), stride, pool());
        }
        check_rows(out, wanted, columns, 2e-6, with_add ? 1e-6 : 0);
        if (!with_add) {
          rms_norm({in.data(), rows, columns, stride}, weight.data(), columns, 1e-6f, in.data(), stride, pool());
          CHECK(in == out);
        }
      });
    }
  }
}

TEST(operators_rms_norm_of_heads) {
  const int64_t rows = 5, heads = 3, head_dim = 48;
  const std::vector<float> x = random_floats(rows * heads * head_dim, 6), weight = random_floats(head_dim, 7);
  std::vector<double> wanted;
  for (int64_t head = 0; head < rows * heads; ++head) {
    double squares = 0;
    for (int64_t c = 0; c < head_dim; ++c) squares += std::pow(x[static_cast<size_t>(head * head_dim + c)], 2.0);
    for (int64_t c = 0; c < head_dim; ++c) {
      wanted.push_back(x[static_cast<size_t>(head * head_dim + c)] / std::sqrt(squares / head_dim + 1e-5) *
                       weight[static_cast<size_t>(c)]);
    }
  }
  on_every_instruction_set([&] {
    std::vector<float> out(static_cast<size_t>(rows * (heads * head_dim + gap)), untouched);
    rms_norm({x.data(), rows, heads * head_dim, heads * head_dim}, weight.data(), head_dim, 1e-5f, out.data(),
             heads * head_dim + gap, pool());
    check_rows(out, wanted, heads * head_dim, 2e-6, 0);
  });
}

// Deviations of 1 beside means up to 10^5: of these a float has 7 digits, and the norm must lose none of the
// deviations'.
TEST(operators_layer_norm) {
  for (const int64_t columns : widths) {
    const int64_t rows = 7, stride = columns + gap;
    std::vector<float> x = random_floats(rows * columns, 8), bias = random_floats(columns, 9);
    const float means[rows] = {0, 1, -3, 100, -1e4f, 1e5f, 1e-3f};
    for (size_t i = 0; i < x.size(); ++i) x[i] += means[i / static_cast<size_t>(columns)];
    const std::vector<float> weight = random_floats(columns, 10);
    for (const bool with_bias : {false, true}) {
      const float* addends = with_bias ? bias.data() : nullptr;
      const std::vector<double> wanted =
          layer_norm_reference(x, columns, weight, with_bias ? bias : std::vector<float>(), 1e-5f);
      on_every_instruction_set([&] {
        std::vector<float> in = strided(x, columns), out(in.size(), untouched);
        layer_norm({in.data(), rows, columns, stride}, weight.data(), addends, 1e-5f, out.data(), stride, pool());
        check_rows(out, wanted, columns, 1e-6, 1e-6);
        layer_norm({in.data(), rows, columns, stride}, weight.data(), addends, 1e-5f, in.data(), stride, pool());
        CHECK(in == out);
        layer_norm({in.data(), 0, columns, stride}, weight.data(), addends, 1e-5f, nullptr, stride, pool());
      });
    }
  }
}

TEST(operators_add_and_silu_mul) {
  for (const int64_t columns : {int64_t{1}, int64_t{17}, int64_t{128}, int64_t{20001}}) {
    for (const int64_t rows : {0, 1, 6}) {
      std::vector<float> a = random_floats(rows * columns, 8, 4.0f), b = random_floats(rows * columns, 9);
      std::vector<double> sums, gated;
      for (size_t i = 0; i < a.size(); ++i) {
        if (i % 7 == 0) a[i] *= 20;  // far into both tails of the sigmoid
        sums.push_back(static_cast<double>(a[i]) + b[i]);
        gated.push_back(a[i] / (1 + std::exp(-static_cast<double>(a[i]))) * b[i]);
      }
      on_every_instruction_set([&] {
        const int64_t stride = columns + gap;
        std::vector<float> in = strided(a, columns), out(in.size(), untouched);
        add({in.data(), rows, columns, stride}, {b.data(), rows, columns, columns}, out.data(), stride, pool());
        check_rows(out, sums, columns, 1e-7, 1e-7);
        silu_mul({in.data(), rows, columns, stride}, {b.data(), rows, columns, columns}, out.data(), stride, pool());
        check_rows(out, gated, columns, 6e-7, 1e-34);
        silu_mul({in.data(), rows, columns, stride}, {b.data(), rows, columns, columns}, in.data(), stride, pool());
        CHECK(in == out);
      });
    }
  }
}

// silu_mul(-x, up) with up chosen so that 1 + exp(x) shows exp(x): for x >= 20 the 1 vanishes, below it does not
// matter.
TEST(operators_silu_mul_exp_is_accurate) {
  std::vector<float> gate, up;
  for (float x = -87.0f; x < 87.0f; x += 0.00731f) gate.push_back(-x), up.push_back(1.0f);
  on_every_instruction_set([&] {
    std::vector<float> out(gate.size());
    const int64_t columns = static_cast<int64_t>(gate.size());
    silu_mul({gate.data(), 1, columns, columns}, {up.data(), 1, columns, columns}, out.data(), columns, pool());
    double worst = 0;
    for (size_t i = 0; i < gate.size(); ++i) {
      const double want = gate[i] / (1 + std::exp(-static_cast<double>(gate[i])));
      worst = std::max(worst, std::abs(out[i] - want) / std::abs(want));
    }
    // exp's 2e-7, and half a unit in the last place (6e-8) each for the sum, the quotient and the product.
    CHECK_MESSAGE(worst < 3.8e-7, name(instruction_set()) << ": relative error " << worst);
  });
}

TEST(operators_silu_mul_at_the_ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float gate[] = {NAN, -1e5f, 1e5f, 0.0f, -0.0f, -100.0f, -89.5f, infinity, -88.6f};
  const float up[] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  on_every_instruction_set([&] {
    float out[9];
    silu_mul({gate, 1, 9, 9}, {up, 1, 9, 9}, out, 9, pool());
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == 0);
    CHECK(out[2] == 1e5f);
    CHECK(out[3] == 0);
    CHECK(out[4] == 0);
    CHECK(std::abs(out[5]) < 1e-35f);
    CHECK(std::abs(out[6]) < 1e-35f);
    CHECK(out[7] == infinity);
    CHECK(std::abs(out[8] / (gate[8] / std::exp(-static_cast<double>(gate[8]))) - 1) < 1e-6);
  });
}

TEST(operators_rope) {
  for (const int head_dim : {8, 48, 80, 128}) {
    const int64_t half = head_dim / 2 - (head_dim == 80 ? 8 : 0);  // 80: a partial rotation
    const int heads = 3;
    Batch batch;
    std::vector<int32_t> blocks;
    for (const int past : {0, 1000, 32000}) {
      SequenceSpan sequence;
      sequence.first_row = batch.rows();
      sequence.rows = past == 0 ? 9 : 1;
      sequence.past = past;
      sequence.rope_base = past == 1000 ? 27500.5 : 0;
      for (int i = 0; i < sequence.rows; ++i) {
        batch.tokens.push_back(0);
        batch.positions.push_back(past + i);
      }
      batch.sequences.push_back(sequence);
    }
    const int64_t rows = batch.rows(), columns = heads * head_dim;
    std::vector<float> frequencies;
    for (int64_t i = 0; i < half; ++i) frequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / half));
    const std::vector<float> x = random_floats(rows * columns, 10);
    on_every_instruction_set([&] {
      std::vector<float> table(static_cast<size_t>(rows * 2 * half));
      std::vector<float> scratch(static_cast<size_t>(half));
      rope_table(batch, frequencies.data(), half, 1.25f, table.data(), scratch.data(), pool());
      std::vector<float> turned = strided(x, columns);
      rope(turned.data(), rows, columns + gap, heads, head_dim, table.data(), half, pool());
      std::vector<double> wanted(x.begin(), x.end());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < half; ++i) {
          double frequency = frequencies[static_cast<size_t>(i)];
          if (batch.positions[static_cast<size_t>(r)] == 1000) frequency = 1 / std::pow(27500.5, double(i) / half);
          const double angle = static_cast<double>(batch.positions[static_cast<size_t>(r)]) * frequency;
          const double tolerance = 1e-6 + angle * 1.2e-7;  // the angle itself is rounded to fp32
          const float* entry = &table[static_cast<size_t>(r * 2 * half)];
          CHECK(std::abs(entry[i] - 1.25 * std::cos(angle)) <= 1.25 * tolerance);
          CHECK(std::abs(entry[half + i] - 1.25 * std::sin(angle)) <= 1.25 * tolerance);
          for (int head = 0; head < heads; ++head) {
            const size_t at = static_cast<size_t>(r * columns + head * head_dim + i);
            const double x1 = x[at], x2 = x[at + static_cast<size_t>(half)], c = entry[i], s = entry[half + i];
            wanted[at] = x1 * c - x2 * s;
            wanted[at + static_cast<size_t>(half)] = x2 * c + x1 * s;
          }
        }
      }
      check_rows(turned, wanted, columns, 1e-6, 1e-6);
    });
  }
}

TEST(operators_log_n_scale_and_gather_rows) {
  const int64_t rows = 4, columns = 37;
  const std::vector<float> x = random_floats(rows * columns, 11);
  const std::vector<int32_t> positions = {5, 2047, 2048, 8000};
  const double factors[] = {1, 1, std::log(2049.0) / std::log(2048.0), std::log(8001.0) / std::log(2048.0)};
  std::vector<double> wanted;
  for (size_t i = 0; i < x.size(); ++i) wanted.push_back(x[i] * factors[i / columns]);
  on_every_instruction_set([&] {
    std::vector<float> scaled = strided(x, columns);
    log_n_scale(scaled.data(), rows, columns, columns + gap, positions.data(), 2048, pool());
    check_rows(scaled, wanted, columns, 2e-7, 0);
  });
  const std::vector<int32_t> chosen = {3, 1};
  std::vector<float> out(2 * (columns + gap), untouched);
  gather_rows({x.data(), rows, columns, columns}, chosen.data(), 2, out.data(), columns + gap);
  std::vector<double> picked;
  for (const int32_t r : chosen) picked.insert(picked.end(), &x[r * columns], &x[r * columns] + columns);
  check_rows(out, picked, columns, 0, 0);
}
