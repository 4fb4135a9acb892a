// The measuring of binding/benchmark, by what it must do whatever the machine's speed: one result for each point, bytes
// and multiplications as counted by hand, an end when it is told to.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <vector>

#include "benchmark/attention.h"
#include "benchmark/gemm.h"
#include "engine/error.h"
#include "engine/random_weights.h"
#include "support/check.h"

using namespace billfish;
using namespace billfish::bench;

namespace {

const Target cpu{"cpu", {}}, emulated{"emulated:0", {}};

GemmOptions small_gemm() {
  GemmOptions options;
  options.cases = {{{128, 64}, 256}, {{192}, 128}};
  options.rows = {1, 3};
  options.weights = {GemmWeights::int4, GemmWeights::bits16};
  options.group_size = 64;
  return options;
}

}  // namespace

TEST(benchmark_gemm_measures_every_point_on_every_device) {
  for (const Target& target : {cpu, emulated}) {
    const bool times = target.device == "cpu";  // mean something, and take their time
    GemmOptions options = small_gemm();
    if (times) options.cases.resize(1), options.rows = {3};
    Control control;
    std::set<std::vector<int64_t>> points;
    const GemmMachine machine = measure_gemm(target, options, control, [&](const GemmResult& result) {
      points.insert({static_cast<int64_t>(result.index), static_cast<int64_t>(result.weights), result.rows});
      CHECK(result.timing.median > 0);
      CHECK(result.timing.fastest <= result.timing.median);
      CHECK(result.timing.median <= result.timing.slowest);
      CHECK(result.memory_rate > 0);
      CHECK(result.vendor_seconds == 0.0);
      if (result.index != 0 || result.weights != GemmWeights::bits16) return;
      CHECK(result.weight_bytes == uint64_t{192 * 256 * 2});
      const uint64_t element = times ? 4 : 2;
      CHECK(result.moved_bytes - result.weight_bytes == (256 + 192) * element * result.rows);
    });
    CHECK(points.size() == (times ? 2u : 8u));
    CHECK(machine.times_are_meaningful == times);
  }
}

// A row goes to two of eight experts, of which a call reads no more than it needs.
TEST(benchmark_gemm_of_experts_counts_those_that_are_read) {
  for (const Target& target : {cpu, emulated}) {
    GemmOptions options;
    options.cases = {{{64, 128}, 128}};
    options.rows = target.device == "cpu" ? std::vector<int64_t>{1} : std::vector<int64_t>{1, 40};
    options.weights = {GemmWeights::nvfp4, GemmWeights::bits16};
    options.experts = 8, options.per_token = 2;
    if (target.device == "cpu") options.weights.resize(1);
    size_t points = 0;
    measure_gemm(target, options, Control(), [&](const GemmResult& result) {
      ++points;
      const uint64_t element = target.device == "cpu" ? 4 : 2, rows = static_cast<uint64_t>(result.rows);
      const uint64_t read = result.moved_bytes - (128 + 2 * 192) * element * rows;
      CHECK(read == (rows == 1 ? result.weight_bytes / 4 : result.weight_bytes));
      if (result.weights == GemmWeights::bits16) CHECK(result.weight_bytes == uint64_t{8 * 192 * 128 * 2});
    });
    CHECK(points == options.rows.size() * options.weights.size());
  }
}

TEST(benchmark_gemm_refuses_a_group_that_no_kernel_takes) {
  GemmOptions options = small_gemm();
  options.group_size = 40;
  CHECK_THROWS(measure_gemm(emulated, options, Control(), [](const GemmResult&) {}), "UNSUPPORTED_MODEL");
}

TEST(benchmark_ends_when_it_is_cancelled) {
  Control control;
  int results = 0;
  const auto cancel = [&](const auto&) {
    ++results;
    control.cancelled = true;
  };
  CHECK_THROWS(measure_gemm(cpu, small_gemm(), control, cancel), "ABORTED");
  CHECK(results == 1);
}

TEST(benchmark_attention_counts_what_is_read_and_multiplied) {
  const std::vector<AttentionCase> cases = {
      {4, 2, 64, 0, 3, 40, 1},  // decode: 41 keys for each of 3 sequences
      {4, 2, 64, 8, 2, 40, 1},  // of which a window shows 8
      {4, 4, 64, 0, 1, 0, 5},   // a prompt: 1 + 2 + ... + 5 pairs
  };
  const int64_t keys[] = {3 * 41, 2 * 8, 5}, pairs[] = {3 * 41, 2 * 8, 15};
  for (const Target& target : {cpu, emulated}) {
    std::vector<AttentionCase> measured = cases;
    if (target.device == "cpu") measured.resize(1);
    size_t results = 0;
    measure_attention(target, measured, Control(), [&](const AttentionResult& result) {
      const AttentionCase& c = cases[result.index];
      CHECK(result.index == results++);
      CHECK(result.timing.median > 0);
      CHECK(result.cache_bytes == static_cast<uint64_t>(keys[result.index] * 2 * c.kv_heads * c.head_dim * 2));
      CHECK(result.multiplications == 2.0 * static_cast<double>(pairs[result.index] * c.heads * c.head_dim));
    });
    CHECK(results == measured.size());
  }
}

TEST(random_weights_are_the_same_rows_in_whatever_pieces) {
  CanonicalShape shape;
  shape.out = 130, shape.in = 100, shape.group_size = 32, shape.has_zero_points = true, shape.bits = 4;
  const auto source = random_quantized(shape);
  CanonicalRows all, part;
  source->read(0, 130, all);
  source->read(64, 66, part);
  CHECK(std::equal(part.codes.begin(), part.codes.end(), all.codes.begin() + 64 * shape.words_per_row()));
  CHECK(std::equal(part.scales.begin(), part.scales.end(), all.scales.begin() + 64 * 4 * 2));
  CHECK(std::equal(part.zeros.begin(), part.zeros.end(), all.zeros.begin() + 64 * 4));
  CHECK(*std::max_element(all.zeros.begin(), all.zeros.end()) == 15);
  for (size_t row = 0; row < 130; ++row) {
    CHECK((all.codes[row * 13 + 12] >> 16) == uint32_t{0});  // 100 codes of 4 bits: 12 words and a half
  }
  for (size_t i = 0; i < all.scales.size(); i += 2) {
    uint16_t scale;
    std::memcpy(&scale, &all.scales[i], 2);
    CHECK(f16_to_float(scale) >= 0.0124f);
    CHECK(f16_to_float(scale) <= 0.0251f);  // 1/8 to 1/4 of 1 / sqrt(100)
  }

  std::vector<float> rows(130 * 100), later(66 * 100);
  const RandomMatrix matrix(100, DType::f32);
  matrix.read(0, 130, rows.data());
  matrix.read(64, 66, later.data());
  CHECK(std::equal(later.begin(), later.end(), rows.begin() + 64 * 100));
  CHECK(!std::equal(rows.begin(), rows.begin() + 100, rows.begin() + 100));
  float most = 0;
  for (const float value : rows) most = std::max(most, std::abs(value));
  CHECK(most <= 0.1f);
  CHECK(most > 0.09f);
}
