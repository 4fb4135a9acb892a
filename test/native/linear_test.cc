// linear() against plain fp64 loops, through every instruction set that this machine has.
#include "cpu/linear.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "check.h"
#include "cpu/features.h"
#include "cpu/quantized_linear.h"
#include "engine/error.h"

using namespace billfish;
using namespace billfish::cpu;

namespace {

using Random = std::mt19937;

// Bytes at a multiple of 64 that end where the allocation ends, so that the address sanitizer sees a read beyond them.
class AlignedBytes {
 public:
  explicit AlignedBytes(size_t size) : data_(static_cast<uint8_t*>(::operator new (size, std::align_val_t{64}))) {
    std::memset(data_, 0, size);
  }
  AlignedBytes(const AlignedBytes&) = delete;
  AlignedBytes& operator=(const AlignedBytes&) = delete;
  ~AlignedBytes() { ::operator delete (data_, std::align_val_t{64}); }
  uint8_t* data() { return data_; }

 private:
  uint8_t* data_;
};

// A canonical linear in plain arrays.
struct Canonical {
  CanonicalShape shape;
  std::vector<uint8_t> codes;  // [out][in]
  std::vector<float> scales;   // [out][groups], exact in the scale type
  std::vector<uint8_t> zeros;  // [out][groups]
  std::vector<float> bias;

  double weight(int64_t n, int64_t k) const {
    const int64_t entry = n * shape.groups() + k / shape.group_size;
    const int zero = shape.has_zero_points ? zeros[entry] : 1 << (shape.bits - 1);
    return static_cast<double>(scales[entry]) * (codes[n * shape.in + k] - zero);
  }

  CanonicalRows rows(int64_t first, int64_t count) const {
    CanonicalRows rows;
    rows.first = first;
    rows.count = count;
    const int64_t words = shape.words_per_row(), groups = shape.groups();
    rows.codes.assign(count * words, 0);
    for (int64_t n = 0; n < count; ++n) {
      for (int64_t k = 0; k < shape.in; ++k) {
        rows.codes[n * words + k * shape.bits / 32] |= static_cast<uint32_t>(codes[(first + n) * shape.in + k])
                                                       << (k * shape.bits % 32);
      }
    }
    for (int64_t i = first * groups; i < (first + count) * groups; ++i) {
      const uint32_t bits = shape.scale_type == DType::f32   ? float_to_bits(scales[i])
                            : shape.scale_type == DType::f16 ? float_to_f16(scales[i])
                                                             : float_to_bf16(scales[i]);
      for (size_t byte = 0; byte < byte_size(shape.scale_type); ++byte)
        rows.scales.push_back(bits >> (8 * byte) & 0xff);
      if (shape.has_zero_points) rows.zeros.push_back(zeros[i]);
    }
    if (shape.has_bias) rows.bias.assign(bias.begin() + first, bias.begin() + first + count);
    return rows;
  }
};

struct Options {
  int bits = 4;
  int64_t out = 16, in = 64, group_size = 32;
  bool zero_points = false, bias = false, order = false;
  DType scale_type = DType::f16;
  bool powers_of_two = false;  // scales, and codes that give exact sums
};

Canonical random_linear(const Options& options, Random& random) {
  Canonical linear;
  CanonicalShape& shape = linear.shape;
  shape.name = "test";
  shape.bits = options.bits;
  shape.out = options.out;
  shape.in = options.in;
  shape.group_size = options.group_size == -1 ? options.in : options.group_size;
  shape.has_zero_points = options.zero_points;
  shape.has_bias = options.bias;
  shape.scale_type = options.scale_type;
  const int64_t entries = shape.out * shape.groups();
  for (int64_t i = 0; i < shape.out * shape.in; ++i) linear.codes.push_back(random() & ((1 << shape.bits) - 1));
  std::uniform_real_distribution<float> scale(0.002f, 0.02f);
  for (int64_t i = 0; i < entries; ++i) {
    const float exact = options.powers_of_two ? (random() & 1 ? 1.0f : 0.5f) : scale(random);
    linear.scales.push_back(shape.scale_type == DType::f32   ? exact
                            : shape.scale_type == DType::f16 ? f16_to_float(float_to_f16(exact))
                                                             : bf16_to_float(float_to_bf16(exact)));
    linear.zeros.push_back(random() & ((1 << shape.bits) - 1));
  }
  if (options.powers_of_two && shape.bits == 8) {
    // Codes near their zero point, so that sums stay below 2^24 and are exact as floats.
    for (int64_t n = 0; n < shape.out; ++n) {
      for (int64_t k = 0; k < shape.in; ++k) {
        uint8_t& zero = linear.zeros[n * shape.groups() + k / shape.group_size];
        zero = std::clamp<uint8_t>(zero, 8, 248);
        const int around = shape.has_zero_points ? zero : 128;
        linear.codes[n * shape.in + k] = static_cast<uint8_t>(around - 8 + static_cast<int>(random() % 16));
      }
    }
  }
  for (int64_t n = 0; n < shape.out; ++n)
    linear.bias.push_back(static_cast<float>(static_cast<int>(random() % 33) - 16));
  if (options.order) {
    for (int64_t k = 0; k < shape.in; ++k) shape.order.push_back(static_cast<int32_t>(k));
    std::shuffle(shape.order.begin(), shape.order.end(), random);
  }
  return linear;
}

struct Packed {
  explicit Packed(const Canonical& canonical) : block(packed_bytes(canonical.shape)) {
    linear = make_quantized_linear(canonical.shape, block.data());
    // Slabs of uneven heights, each beginning at a multiple of row_tile.
    for (int64_t first = 0, height = row_tile; first < canonical.shape.out; first += height, height += row_tile) {
      pack_rows(linear, canonical.rows(first, std::min(height, canonical.shape.out - first)));
    }
  }
  AlignedBytes block;
  QuantizedLinear linear;
};

// x with a stride wider than its columns; the gap holds NaN.
struct Input {
  Input(int64_t row_count, int64_t columns) : stride(columns + 3), values(row_count * stride, NAN) {
    rows = {values.data(), row_count, columns, stride};
  }
  float& at(int64_t r, int64_t k) { return values[r * stride + k]; }
  int64_t stride;
  std::vector<float> values;
  Rows rows;
};

void fill_normal(Input& x, Random& random) {
  std::normal_distribution<float> normal;
  for (int64_t r = 0; r < x.rows.rows; ++r) {
    for (int64_t k = 0; k < x.rows.columns; ++k) x.at(r, k) = normal(random);
  }
}

std::vector<InstructionSet> instruction_sets() {
  std::vector<InstructionSet> sets;
  for (int i = 0; i <= static_cast<int>(best_instruction_set()); ++i) sets.push_back(static_cast<InstructionSet>(i));
  return sets;
}

struct Expected {
  std::vector<double> values, magnitudes;  // magnitudes: sums of |products|
};

template <class Weight>
Expected expect(const Rows& x, int64_t out, const std::vector<int32_t>& order, const float* bias, Weight weight) {
  Expected expected;
  for (int64_t r = 0; r < x.rows; ++r) {
    for (int64_t n = 0; n < out; ++n) {
      double value = bias != nullptr ? bias[n] : 0.0, magnitude = std::abs(value);
      for (int64_t k = 0; k < x.columns; ++k) {
        const double product = weight(n, k) * x.data[r * x.stride + (order.empty() ? k : order[k])];
        value += product;
        magnitude += std::abs(product);
      }
      expected.values.push_back(value);
      expected.magnitudes.push_back(magnitude);
    }
  }
  return expected;
}

Expected expect(const Canonical& linear, const Rows& x) {
  return expect(x, linear.shape.out, linear.shape.order, linear.shape.has_bias ? linear.bias.data() : nullptr,
                [&](int64_t n, int64_t k) { return linear.weight(n, k); });
}

// Outputs with a gap after each row that must stay untouched.
struct Output {
  Output(int64_t row_count, int64_t columns)
      : rows(row_count), out(columns), stride(columns + 5), values(rows * stride, -77.0f) {}
  bool gaps_untouched() const {
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = out; n < stride; ++n) {
        if (values[r * stride + n] != -77.0f) return false;
      }
    }
    return true;
  }
  int64_t rows, out, stride;
  std::vector<float> values;
};

void check_exact(const Output& got, const Expected& expected, const std::string& what) {
  CHECK_MESSAGE(got.gaps_untouched(), what);
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < got.out; ++n) {
      const double error = std::abs(got.values[r * got.stride + n] - expected.values[r * got.out + n]);
      const double bound = 1e-5 * expected.magnitudes[r * got.out + n];
      CHECK_MESSAGE(error <= bound,
                    what << " row " << r << " output " << n << ": error " << error << " above " << bound);
    }
  }
}

void check_fast(const Output& got, const Expected& expected, const std::string& what) {
  CHECK_MESSAGE(got.gaps_untouched(), what);
  double error = 0, size = 0;
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < got.out; ++n) {
      error += std::abs(got.values[r * got.stride + n] - expected.values[r * got.out + n]);
      size += std::abs(expected.values[r * got.out + n]);
    }
  }
  // 16-bit activations give 2e-5 on normal data; a wrong scale, code or sum anywhere gives much more than 1e-4.
  CHECK_MESSAGE(error < 1e-4 * size, what << ": mean error over mean size " << error / size);
}

bool equal_values(const Output& got, const Expected& expected) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < got.out; ++n) {
      if (got.values[r * got.stride + n] != expected.values[r * got.out + n]) return false;
    }
  }
  return got.gaps_untouched();
}

ThreadPool& test_pool() {
  static ThreadPool pool(2);
  return pool;
}

// Puts the best instruction set back at the end of a test.
struct RestoreInstructionSet {
  ~RestoreInstructionSet() { set_instruction_set(best_instruction_set()); }
};

std::string describe(const Options& o, int64_t rows, InstructionSet set, Precision precision) {
  return std::string(name(set)) + (precision == Precision::fast ? " fast" : " exact") + " M" + std::to_string(rows) +
         " K" + std::to_string(o.in) + " N" + std::to_string(o.out) + " g" + std::to_string(o.group_size) + " bits " +
         std::to_string(o.bits) + (o.zero_points ? " asym" : " sym") + (o.order ? " act-order" : "") +
         (o.bias ? " bias" : "");
}

void run(const QuantizedLinear& linear_, const Rows& x, Precision precision, Output& out) {
  static const auto scratch = make_linear_scratch();
  const LinearCall call{nullptr, &linear_, out.values.data(), out.stride};
  linear(&call, 1, x, precision, *scratch, test_pool());
}

void run(const Matrix& matrix, const Rows& x, Precision precision, Output& out) {
  static const auto scratch = make_linear_scratch();
  const LinearCall call{&matrix, nullptr, out.values.data(), out.stride};
  linear(&call, 1, x, precision, *scratch, test_pool());
}

template <class T>
T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

void convert(const std::vector<float>& values, DType type, uint8_t* to) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == DType::f32) reinterpret_cast<float*>(to)[i] = values[i];
    if (type == DType::f16) reinterpret_cast<uint16_t*>(to)[i] = float_to_f16(values[i]);
    if (type == DType::bf16) reinterpret_cast<uint16_t*>(to)[i] = float_to_bf16(values[i]);
  }
}

}  // namespace

TEST(linear_packs_what_it_reads_back) {
  Random random(1);
  for (const int bits : {4, 8}) {
    for (const DType type : {DType::f16, DType::bf16, DType::f32}) {
      for (const int64_t in : {7, 64, 75, 264}) {
        Options options;
        options.bits = bits;
        options.out = 37;
        options.in = in;
        options.group_size = in % 8 == 0 ? 32 : -1;
        options.zero_points = options.bias = true;
        options.scale_type = type;
        const Canonical canonical = random_linear(options, random);
        CHECK(packed_bytes(canonical.shape) % 64 == 0);
        const Packed packed(canonical);
        const PackedWeights weights = packed_weights(packed.linear);
        for (int64_t n = 0; n < options.out; ++n) {
          for (int64_t k = 0; k < in; ++k) CHECK(packed_code(weights, n, k) == canonical.codes[n * in + k]);
          for (int64_t g = 0; g < canonical.shape.groups(); ++g) {
            CHECK(packed_scale(weights, n, g) == canonical.scales[n * canonical.shape.groups() + g]);
            CHECK(packed_zero(weights, n, g) == canonical.zeros[n * canonical.shape.groups() + g]);
          }
          CHECK(packed.linear.bias[n] == canonical.bias[n]);
        }
      }
    }
  }
}

TEST(linear_packed_layout_is_the_drawn_one) {
  CanonicalShape shape;
  shape.out = 16;
  shape.in = 8;
  shape.group_size = 8;
  AlignedBytes block(packed_bytes(shape));
  CHECK(packed_bytes(shape) == 64 + 64);  // 16 x 8 codes, 16 scales
  const QuantizedLinear linear = make_quantized_linear(shape, block.data());
  CanonicalRows rows;
  rows.count = 16;
  rows.codes.assign(16, 0);
  rows.codes[3] = 0x76543210;  // input k has code k
  rows.scales.assign(32, 0);
  pack_rows(linear, rows);
  const uint8_t expected[4] = {0x40, 0x51, 0x62, 0x73};
  CHECK(std::memcmp(block.data() + 3 * 4, expected, 4) == 0);
}

TEST(linear_refuses_shapes_that_no_kernel_takes) {
  CanonicalShape shape;
  shape.name = "model.layers.0.q_proj";
  shape.out = 64;
  shape.in = 64;
  shape.group_size = 20;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.group_size = 32;
  shape.bits = 3;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
  shape.bits = 4;
  shape.scale_type = DType::i32;
  CHECK_THROWS(packed_bytes(shape), "INVALID_CHECKPOINT");
}

// Small integers, power-of-two scales, and one activation of 32767 in every segment that makes the step of the 16-bit
// codes one: every product and sum is exact, so every path must give the same floats as fp64.
TEST(linear_is_exact_on_integers) {
  const RestoreInstructionSet restore;
  Random random(2);
  for (const int bits : {4, 8}) {
    for (const int64_t group : {8, 32, 96, 128, -1}) {
      for (const int64_t rows : {1, 2, 3, 4, 5, 7, 13, 140}) {
        Options options;
        options.bits = bits;
        options.out = pick<int64_t>(random, {1, 16, 40, 64, 80, 130});
        options.in = group == -1 ? pick<int64_t>(random, {5, 100, 300}) : pick<int64_t>(random, {96, 200, 384});
        options.group_size = group;
        options.zero_points = random() % 2;
        options.bias = random() % 2;
        options.powers_of_two = true;
        const Canonical canonical = random_linear(options, random);
        const Packed packed(canonical);
        Input x(rows, options.in);
        const int64_t group_size = canonical.shape.group_size;
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t k = 0; k < options.in; ++k) {
            const bool first_of_segment = k % group_size % segment_inputs == 0;
            x.at(r, k) = first_of_segment ? (random() & 1 ? 32767.0f : -32767.0f) : static_cast<int>(random() % 15) - 7;
          }
        }
        const Expected expected = expect(canonical, x.rows);
        for (const InstructionSet set : instruction_sets()) {
          set_instruction_set(set);
          for (const Precision precision : {Precision::exact, Precision::fast}) {
            Output out(rows, options.out);
            run(packed.linear, x.rows, precision, out);
            CHECK_MESSAGE(equal_values(out, expected), describe(options, rows, set, precision));
          }
        }
      }
    }
  }
}

TEST(linear_sweep_of_quantized_shapes) {
  const RestoreInstructionSet restore;
  Random random(3);
  for (int i = 0; i < 60; ++i) {
    Options options;
    options.bits = pick(random, {4, 8});
    options.out = pick<int64_t>(random, {16, 24, 64, 160, 192});
    options.in = pick<int64_t>(random, {64, 96, 128, 200, 256, 384, 768, 1024});
    options.group_size = pick<int64_t>(random, {32, 64, 128, -1});
    options.zero_points = random() % 2;
    options.bias = random() % 2;
    options.order = random() % 3 == 0;
    options.scale_type = pick(random, {DType::f16, DType::bf16, DType::f32});
    const int64_t rows = pick<int64_t>(random, {1, 2, 3, 4, 5, 8, 13, 16, 17, 64, 130});
    if (rows * options.in * options.out > 4'000'000) continue;
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    Input x(rows, options.in);
    fill_normal(x, random);
    const Expected expected = expect(canonical, x.rows);
    for (const InstructionSet set : instruction_sets()) {
      set_instruction_set(set);
      Output exact(rows, options.out), fast(rows, options.out);
      run(packed.linear, x.rows, Precision::exact, exact);
      check_exact(exact, expected, describe(options, rows, set, Precision::exact));
      run(packed.linear, x.rows, Precision::fast, fast);
      check_fast(fast, expected, describe(options, rows, set, Precision::fast));
    }
  }
}

// The down projection of a 72B model, one group of 29568 inputs: sums are cut into segments all the same.
TEST(linear_takes_channelwise_groups_of_many_inputs) {
  const RestoreInstructionSet restore;
  Random random(10);
  for (const int bits : {4, 8}) {
    Options options;
    options.bits = bits;
    options.in = 29568;
    options.group_size = -1;
    options.zero_points = true;
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    for (const int64_t rows : {1, 6}) {
      Input x(rows, options.in);
      fill_normal(x, random);
      const Expected expected = expect(canonical, x.rows);
      for (const InstructionSet set : instruction_sets()) {
        set_instruction_set(set);
        Output exact(rows, options.out), fast(rows, options.out);
        run(packed.linear, x.rows, Precision::exact, exact);
        check_exact(exact, expected, describe(options, rows, set, Precision::exact));
        run(packed.linear, x.rows, Precision::fast, fast);
        check_fast(fast, expected, describe(options, rows, set, Precision::fast));
      }
    }
  }
}

TEST(linear_sweep_of_matrices) {
  const RestoreInstructionSet restore;
  Random random(4);
  std::normal_distribution<float> normal;
  for (int i = 0; i < 40; ++i) {
    Options options;
    options.out = pick<int64_t>(random, {1, 3, 16, 24, 64, 100, 160});
    options.in = pick<int64_t>(random, {1, 7, 16, 40, 64, 129, 200, 384, 1024});
    const DType type = pick(random, {DType::f32, DType::f16, DType::bf16});
    const int64_t rows = pick<int64_t>(random, {1, 2, 3, 4, 5, 8, 13, 16, 17, 64, 130});
    std::vector<float> values(options.out * options.in);
    for (float& value : values) {
      value = normal(random);
      if (type == DType::f16) value = f16_to_float(float_to_f16(value));
      if (type == DType::bf16) value = bf16_to_float(float_to_bf16(value));
    }
    AlignedBytes bytes(values.size() * byte_size(type));
    convert(values, type, bytes.data());
    std::vector<float> bias(options.out, 0.25f);
    const Matrix matrix{type, options.out, options.in, bytes.data(), random() % 2 ? bias.data() : nullptr};
    Input x(rows, options.in);
    fill_normal(x, random);
    const Expected expected =
        expect(x.rows, options.out, {}, matrix.bias, [&](int64_t n, int64_t k) { return values[n * options.in + k]; });
    for (const InstructionSet set : instruction_sets()) {
      set_instruction_set(set);
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        Output out(rows, options.out);
        run(matrix, x.rows, precision, out);
        check_exact(out, expected, "matrix " + describe(options, rows, set, precision));
      }
    }
  }
}

// Three quantised linears (two with one act-order, one with another, groups cut differently) and a matrix on one input.
TEST(linear_runs_several_calls_on_one_input) {
  const RestoreInstructionSet restore;
  Random random(5);
  const int64_t in = 256;
  std::vector<Canonical> canonical;
  for (int i = 0; i < 3; ++i) {
    Options options;
    options.in = in;
    options.out = 48 + 40 * i;
    options.group_size = i == 1 ? 32 : 64;
    options.order = i > 0;
    options.bits = i == 2 ? 8 : 4;
    canonical.push_back(random_linear(options, random));
  }
  canonical[0].shape.order = canonical[1].shape.order;
  const Packed first(canonical[0]), second(canonical[1]), third(canonical[2]);
  std::normal_distribution<float> normal;
  std::vector<float> values(70 * in);
  for (float& value : values) value = normal(random);
  AlignedBytes bytes(values.size() * sizeof(float));
  convert(values, DType::f32, bytes.data());
  const Matrix matrix{DType::f32, 70, in, bytes.data(), nullptr};
  const auto scratch = make_linear_scratch();
  for (const int64_t rows : {1, 3, 20, 7}) {
    Input x(rows, in);
    fill_normal(x, random);
    for (const InstructionSet set : instruction_sets()) {
      set_instruction_set(set);
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        Output outs[4] = {{rows, 48}, {rows, 88}, {rows, 128}, {rows, 70}};
        LinearCall calls[4];
        const QuantizedLinear* quantized[4] = {&first.linear, &second.linear, &third.linear, nullptr};
        for (int i = 0; i < 4; ++i)
          calls[i] = {i == 3 ? &matrix : nullptr, quantized[i], outs[i].values.data(), outs[i].stride};
        linear(calls, 4, x.rows, precision, *scratch, test_pool());
        for (int i = 0; i < 4; ++i) {
          const Expected expected =
              i < 3 ? expect(canonical[i], x.rows)
                    : expect(x.rows, 70, {}, nullptr, [&](int64_t n, int64_t k) { return values[n * in + k]; });
          const std::string what = std::string("call ") + std::to_string(i) + " " + name(set);
          if (precision == Precision::exact || i == 3) {
            check_exact(outs[i], expected, what);
          } else {
            check_fast(outs[i], expected, what);
          }
        }
      }
    }
  }
}

TEST(linear_does_not_depend_on_the_number_of_threads) {
  Random random(6);
  Options options;
  options.out = 200;
  options.in = 384;
  options.group_size = 128;
  const Canonical canonical = random_linear(options, random);
  const Packed packed(canonical);
  for (const int64_t rows : {1, 3, 150}) {
    Input x(rows, options.in);
    fill_normal(x, random);
    std::vector<float> first;
    for (const int threads : {1, 2, 5}) {
      ThreadPool pool(threads);
      for (const Precision precision : {Precision::exact, Precision::fast}) {
        const auto scratch = make_linear_scratch();
        Output out(rows, options.out);
        const LinearCall call{nullptr, &packed.linear, out.values.data(), out.stride};
        linear(&call, 1, x.rows, precision, *scratch, pool);
        if (precision == Precision::exact) continue;
        if (first.empty()) first = out.values;
        CHECK(out.values == first);
      }
    }
  }
}

TEST(linear_reference_agrees_with_the_unpacked_weights) {
  Random random(7);
  for (const int bits : {4, 8}) {
    Options options;
    options.bits = bits;
    options.out = 40;
    options.in = 200;
    options.group_size = 64;
    options.zero_points = options.bias = options.order = true;
    const Canonical canonical = random_linear(options, random);
    const Packed packed(canonical);
    Input x(3, options.in);
    fill_normal(x, random);
    const Expected expected = expect(canonical, x.rows);
    std::vector<double> got(3 * options.out);
    linear_reference({nullptr, &packed.linear, nullptr, 0}, x.rows, got.data(), options.out);
    for (size_t i = 0; i < got.size(); ++i)
      CHECK(std::abs(got[i] - expected.values[i]) <= 1e-12 * expected.magnitudes[i]);
  }
}

TEST(linear_instruction_set_is_never_better_than_the_processor) {
  const RestoreInstructionSet restore;
  for (const InstructionSet wanted : {InstructionSet::scalar, InstructionSet::avx2, InstructionSet::avx512}) {
    const InstructionSet used = set_instruction_set(wanted);
    CHECK(used == std::min(wanted, best_instruction_set()));
    CHECK(instruction_set() == used);
  }
}

// What is broken must not look whole: a NaN or an infinity reaches the outputs of its row, and of no other row.
TEST(linear_lets_nan_and_infinity_through) {
  const RestoreInstructionSet restore;
  Random random(8);
  Options options;
  options.out = 64;
  options.in = 256;
  options.group_size = 128;
  const Canonical canonical = random_linear(options, random);
  const Packed packed(canonical);
  for (const InstructionSet set : instruction_sets()) {
    set_instruction_set(set);
    for (const int64_t rows : {3, 10}) {
      for (const float broken : {NAN, INFINITY, -INFINITY}) {
        Input x(rows, options.in);
        fill_normal(x, random);
        x.at(1, 130) = broken;
        Output out(rows, options.out);
        run(packed.linear, x.rows, Precision::fast, out);
        for (int64_t r = 0; r < rows; ++r) {
          for (int64_t n = 0; n < options.out; ++n) CHECK(std::isfinite(out.values[r * out.stride + n]) == (r != 1));
        }
      }
    }
  }
}

TEST(linear_takes_zero_and_tiny_activations) {
  const RestoreInstructionSet restore;
  Random random(9);
  Options options;
  options.in = 128;
  options.bias = true;
  const Canonical canonical = random_linear(options, random);
  const Packed packed(canonical);
  for (const InstructionSet set : instruction_sets()) {
    set_instruction_set(set);
    for (const float value : {0.0f, -0.0f, 1e-38f, 1e-45f}) {
      Input x(2, options.in);
      for (int64_t k = 0; k < options.in; ++k) x.at(0, k) = x.at(1, k) = value;
      Output out(2, options.out);
      run(packed.linear, x.rows, Precision::fast, out);
      for (int64_t n = 0; n < options.out; ++n) CHECK(out.values[n] == canonical.bias[n]);
    }
  }
}
