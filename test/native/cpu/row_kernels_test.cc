// What the CPU's operators stand on: conversions of rows, and the tables of rotary embeddings.
#include "cpu/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "cpu/operators.h"
#include "support/check.h"
#include "support/every_instruction_set.h"
#include "support/kernel_numbers.h"

using namespace billfish;
using namespace billfish::cpu;

TEST(row_kernels_narrow_like_the_reference_and_hide_no_infinity) {
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

TEST(rope_table_holds_cosines_and_sines) {
  for (const int head_dim : {8, 48, 80, 128}) {
    const int64_t half = head_dim / 2 - (head_dim == 80 ? 8 : 0);  // 80: a partial rotation
    Batch batch;
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
    const int64_t rows = batch.rows();
    std::vector<float> frequencies;
    for (int64_t i = 0; i < half; ++i) frequencies.push_back(std::pow(10000.0f, -static_cast<float>(i) / half));
    on_every_instruction_set([&] {
      std::vector<float> table(static_cast<size_t>(rows * 2 * half));
      std::vector<float> scratch(static_cast<size_t>(half));
      rope_table(batch, frequencies.data(), half, 1.25f, table.data(), scratch.data(), pool());
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < half; ++i) {
          double frequency = frequencies[static_cast<size_t>(i)];
          if (batch.positions[static_cast<size_t>(r)] == 1000) frequency = 1 / std::pow(27500.5, double(i) / half);
          const double angle = static_cast<double>(batch.positions[static_cast<size_t>(r)]) * frequency;
          const double tolerance = 1e-6 + angle * 1.2e-7;  // the angle itself is rounded to fp32
          const float* entry = &table[static_cast<size_t>(r * 2 * half)];
          CHECK(std::abs(entry[i] - 1.25 * std::cos(angle)) <= 1.25 * tolerance);
          CHECK(std::abs(entry[half + i] - 1.25 * std::sin(angle)) <= 1.25 * tolerance);
        }
      }
    });
  }
}
