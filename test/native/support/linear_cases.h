// What the tests of the CPU linears share: random weights and inputs, fp64 expectations, and how results are judged.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "cpu/linear.h"
#include "cpu/quantized_linear.h"
#include "engine/error.h"
#include "support/check.h"
#include "support/every_instruction_set.h"

namespace linear_test {

using namespace billfish;
using namespace billfish::cpu;

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
  std::vector<float> output_scales, bias;

  double weight(int64_t n, int64_t k) const {
    const int64_t entry = n * shape.groups() + k / shape.group_size;
    const int zero = shape.has_zero_points ? zeros[entry] : 1 << (shape.bits - 1);
    const double scale = static_cast<double>(scales[entry]) * (shape.has_output_scales ? output_scales[n] : 1.0f);
    return scale * number_of_code(shape.codes, codes[n * shape.in + k], zero);
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
      const uint32_t bits = bits_of_scale(scales[i]);
      for (size_t byte = 0; byte < byte_size(shape.scale_type); ++byte)
        rows.scales.push_back(bits >> (8 * byte) & 0xff);
      if (shape.has_zero_points) rows.zeros.push_back(zeros[i]);
    }
    if (shape.has_bias) rows.bias.assign(bias.begin() + first, bias.begin() + first + count);
    if (shape.has_output_scales) {
      rows.output_scales.assign(output_scales.begin() + first, output_scales.begin() + first + count);
    }
    return rows;
  }

  // e4m3 scales are normal numbers, the exponent's bias 120 less.
  uint32_t bits_of_scale(float scale) const {
    switch (shape.scale_type) {
      case DType::f16:
        return float_to_f16(scale);
      case DType::bf16:
        return float_to_bf16(scale);
      case DType::f8_e4m3:
        return (float_to_bits(scale) >> 20) - (120u << 3);
      case DType::f8_e8m0:
        return float_to_bits(scale) >> 23;
      default:
        return float_to_bits(scale);
    }
  }
};

// The codes that weights may have.
struct Codes {
  int bits;
  CodeType type = CodeType::integer;
};
constexpr Codes all_codes[] = {{4}, {8}, {8, CodeType::e4m3}, {4, CodeType::e2m1}};
constexpr bool may_have_zero_points(const Codes& codes) { return codes.type == CodeType::integer; }

// The e4m3 code of a small whole number.
inline uint8_t e4m3_of(int number) {
  for (int code = 0; code < 256; ++code) {
    if (!is_e4m3_nan(static_cast<uint8_t>(code)) && e4m3_to_float(static_cast<uint8_t>(code)) == number)
      return static_cast<uint8_t>(code);
  }
  std::abort();
}

struct Options {
  int bits = 4;
  CodeType codes = CodeType::integer;
  int64_t out = 16, in = 64, group_size = 32;
  bool zero_points = false, bias = false, order = false;
  DType scale_type = DType::f16;
  bool powers_of_two = false;  // scales, and codes that give exact sums
};

// A scale as that type holds it: e4m3 ones, which another scale multiplies, are larger.
inline float stored_scale(DType type, float exact) {
  switch (type) {
    case DType::f16:
      return f16_to_float(float_to_f16(exact));
    case DType::bf16:
      return bf16_to_float(float_to_bf16(exact));
    case DType::f8_e4m3:
      return bits_to_float(float_to_bits(exact * 64) & 0xfff00000u);
    case DType::f8_e8m0:
      return bits_to_float(float_to_bits(exact) & 0xff800000u);
    default:
      return exact;
  }
}

inline Canonical random_linear(const Options& options, Random& random) {
  Canonical linear;
  CanonicalShape& shape = linear.shape;
  shape.name = "test";
  shape.bits = options.bits;
  shape.codes = options.codes;
  shape.out = options.out;
  shape.in = options.in;
  shape.group_size = options.group_size == -1 ? options.in : options.group_size;
  shape.has_zero_points = options.zero_points;
  shape.has_bias = options.bias;
  shape.scale_type = options.scale_type;
  if (shape.codes == CodeType::e2m1) {  // scales in bytes, of two levels or one
    shape.scale_type = options.scale_type == DType::f16 ? DType::f8_e4m3 : DType::f8_e8m0;
    shape.has_output_scales = options.scale_type == DType::f16;
  }
  const int64_t entries = shape.out * shape.groups();
  for (int64_t i = 0; i < shape.out * shape.in; ++i) linear.codes.push_back(random() & ((1 << shape.bits) - 1));
  std::uniform_real_distribution<float> scale(0.002f, 0.02f);
  for (int64_t i = 0; i < entries; ++i) {
    const float exact = options.powers_of_two ? (random() & 1 ? 1.0f : 0.5f) : scale(random);
    linear.scales.push_back(stored_scale(shape.scale_type, exact));
    linear.zeros.push_back(random() & ((1 << shape.bits) - 1));
  }
  if (shape.codes == CodeType::e4m3) {
    for (uint8_t& code : linear.codes) {
      if (options.powers_of_two) code = e4m3_of(static_cast<int>(code % 16) - 8);
      if (is_e4m3_nan(code)) code ^= 1;
    }
  } else if (options.powers_of_two && shape.bits == 8) {
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
  for (int64_t n = 0; n < shape.out; ++n) linear.output_scales.push_back(random() & 1 ? 0.03125f : 0.0078125f);
  shape.has_group_index = options.order;
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

inline void fill_normal(Input& x, Random& random) {
  std::normal_distribution<float> normal;
  for (int64_t r = 0; r < x.rows.rows; ++r) {
    for (int64_t k = 0; k < x.rows.columns; ++k) x.at(r, k) = normal(random);
  }
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

inline Expected expect(const Canonical& linear, const Rows& x) {
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

inline void check_exact(const Output& got, const Expected& expected, const std::string& what) {
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

inline void check_fast(const Output& got, const Expected& expected, const std::string& what) {
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

inline bool equal_values(const Output& got, const Expected& expected) {
  for (int64_t r = 0; r < got.rows; ++r) {
    for (int64_t n = 0; n < got.out; ++n) {
      if (got.values[r * got.stride + n] != expected.values[r * got.out + n]) return false;
    }
  }
  return got.gaps_untouched();
}

inline std::string describe(const Options& o, int64_t rows, Precision precision) {
  return std::string(name(instruction_set())) + (precision == Precision::fast ? " fast" : " exact") + " M" +
         std::to_string(rows) + " K" + std::to_string(o.in) + " N" + std::to_string(o.out) + " g" +
         std::to_string(o.group_size) + " bits " + std::to_string(o.bits) +
         (o.codes == CodeType::e4m3   ? " e4m3"
          : o.codes == CodeType::e2m1 ? " e2m1"
          : o.zero_points             ? " asym"
                                      : " sym") +
         (o.order ? " act-order" : "") + (o.bias ? " bias" : "");
}

// With a scratch of exactly the bytes that the calls say they need.
inline void run(const std::vector<LinearCall>& calls, const Rows& x, Precision precision, ThreadPool& pool) {
  size_t bytes = 0;
  for (const LinearCall& call : calls) bytes = std::max(bytes, linear_scratch_bytes(call, x.rows, precision));
  AlignedBytes scratch(bytes);
  linear(calls.data(), static_cast<int>(calls.size()), x, precision, {scratch.data(), bytes}, pool);
}

inline void run(const QuantizedLinear& linear, const Rows& x, Precision precision, Output& out) {
  run({LinearCall{nullptr, &linear, out.values.data(), out.stride}}, x, precision, pool());
}

inline void run(const Matrix& matrix, const Rows& x, Precision precision, Output& out) {
  run({LinearCall{&matrix, nullptr, out.values.data(), out.stride}}, x, precision, pool());
}

template <class T>
T pick(Random& random, std::initializer_list<T> values) {
  return values.begin()[random() % values.size()];
}

inline void convert(const std::vector<float>& values, DType type, uint8_t* to) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (type == DType::f32) reinterpret_cast<float*>(to)[i] = values[i];
    if (type == DType::f16) reinterpret_cast<uint16_t*>(to)[i] = float_to_f16(values[i]);
    if (type == DType::bf16) reinterpret_cast<uint16_t*>(to)[i] = float_to_bf16(values[i]);
  }
}

// Runs the packed weight with every instruction set and both precisions, and compares with fp64.
inline void check_everywhere(const Packed& packed, const Input& x, const Options& options, const Expected& expected) {
  on_every_instruction_set([&] {
    Output exact(x.rows.rows, options.out), fast(x.rows.rows, options.out);
    run(packed.linear, x.rows, Precision::exact, exact);
    check_exact(exact, expected, describe(options, x.rows.rows, Precision::exact));
    run(packed.linear, x.rows, Precision::fast, fast);
    check_fast(fast, expected, describe(options, x.rows.rows, Precision::fast));
  });
}

}  // namespace linear_test
