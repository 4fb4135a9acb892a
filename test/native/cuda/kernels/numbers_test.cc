// Arithmetic of kernels: 16-bit numbers are converted and computed with as IEEE 754 says, bits are shuffled as PTX
// says.
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

namespace billfish::BILLFISH_TARGET {

namespace {

constexpr uint32_t threads = 256;

LaunchShape shape_for(size_t count) {
  return {.grid = {static_cast<uint32_t>((count + threads - 1) / threads)}, .block = {threads}};
}

template <class T>
struct Widen {
  static constexpr int max_threads = threads;
  Global<const T> in;
  Global<float> out;
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t i = block_index().x * threads + thread_index().x;
    if (i < count) out[i] = to_float(T(in[i]));
  }
};

template <class T>
struct Narrow {
  static constexpr int max_threads = threads;
  Global<const float> in;
  Global<T> out;
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t i = block_index().x * threads + thread_index().x;
    if (i < count) out[i] = from_float<T>(in[i]);
  }
};

// out[i] = a - b, a * b + c.
template <class T>
struct Compute {
  static constexpr int max_threads = threads;
  Global<const T> a, b, c;
  Global<T> out;  // [2, count]
  uint32_t count;

  DEVICE void operator()() const {
    const uint32_t i = block_index().x * threads + thread_index().x;
    if (i >= count) return;
    const T one = from_float<T>(1.0f), other = a[i];
    const Pair<T> x = make_pair_of(other, one), y = make_pair_of(T(b[i]), one), z = make_pair_of(T(c[i]), one);
    const Pair<T> results[2] = {sub2(x, y), fma2(x, y, z)};
    for (uint32_t j = 0; j < 2; ++j) out[j * count + i] = results[j].x;
  }
};

template <class T, class Format>
void check_conversions(const Format& format) {
  Stream stream(Device::at(0));
  std::vector<uint16_t> all(0x10000);
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<uint16_t>(i);
  const DeviceMemory bits = upload(stream, all), floats(stream.device(), all.size() * sizeof(float));
  launch(stream, shape_for(all.size()), Widen<T>{bits.as<T>(), floats.as<float>(), 0x10000});
  const auto values = download<float>(stream, floats);
  for (size_t i = 0; i < all.size(); ++i) {
    const double expected = format.value(all[i]);
    CHECK_MESSAGE((std::isnan(expected) ? std::isnan(values[i]) : values[i] == expected), i);
  }

  // Every number, the middle between it and the next smaller, and what is just beside the middle.
  std::vector<float> near = values;
  for (size_t i = 0; i < all.size(); ++i) {
    if ((all[i] & 0x7fff) == 0 || std::isnan(values[i])) continue;
    const double at =
        std::isinf(values[i]) ? std::copysign(std::ldexp(1.0, 1 << (format.exponent_bits - 1)), values[i]) : values[i];
    const auto middle = static_cast<float>((at + values[i - 1]) / 2);
    near.insert(near.end(),
                {middle, std::nextafter(middle, 0.0f), std::nextafter(middle, std::copysign(INFINITY, middle))});
  }
  const auto count = static_cast<uint32_t>(near.size());
  const DeviceMemory in = upload(stream, near), out(stream.device(), near.size() * sizeof(T));
  launch(stream, shape_for(near.size()), Narrow<T>{in.as<float>(), out.as<T>(), count});
  const auto narrowed = download<uint16_t>(stream, out);
  for (size_t i = 0; i < near.size(); ++i) CHECK_MESSAGE(format.same(narrowed[i], format.nearest(near[i])), near[i]);
}

template <class T, class Format>
void check_arithmetic(const Format& format) {
  // Exponents close to each other, so that sums cancel and round.
  std::mt19937 random(7);
  constexpr uint32_t count = 100'000;
  std::vector<uint16_t> operands[3];
  for (auto& values : operands) {
    for (uint32_t i = 0; i < count; ++i) {
      values.push_back(format.nearest(std::ldexp(random() * 0x1p-31 - 1, static_cast<int>(random() % 8))));
    }
  }
  // Where rounding twice goes wrong: 1 + 2^-10 squared less 1 + 2^-9 leaves 2^-20, and 2048 (1 + 2^-10) + 2^-24 lies
  // just above the middle of two halves.
  const double corners[][3] = {{1 + 0x1p-10, 1 + 0x1p-10, -1 - 0x1p-9},
                               {2048, 1 + 0x1p-10, 0x1p-24},
                               {1025, 3, 0x1p-24},
                               {1025, 3, -0x1p-24},
                               {0x1p-24, 0x1p-24, 2048},
                               {60000, 2, -60000},
                               {60000, 2, 1}};
  for (const auto& corner : corners) {
    for (int i = 0; i < 3; ++i) operands[i].push_back(format.nearest(corner[i]));
  }
  const auto all = static_cast<uint32_t>(operands[0].size());

  Stream stream(Device::at(0));
  const DeviceMemory a = upload(stream, operands[0]), b = upload(stream, operands[1]), c = upload(stream, operands[2]);
  const DeviceMemory out(stream.device(), 2 * a.bytes());
  launch(stream, shape_for(all), Compute<T>{a.as<T>(), b.as<T>(), c.as<T>(), out.as<T>(), all});
  const auto results = download<uint16_t>(stream, out);
  for (uint32_t i = 0; i < all; ++i) {
    const long double x = format.value(operands[0][i]), y = format.value(operands[1][i]),
                      z = format.value(operands[2][i]);
    const long double expected[2] = {x - y, x * y + z};  // exact in a mantissa of 64 bits
    for (uint32_t j = 0; j < 2; ++j) {
      CHECK_MESSAGE(format.same(results[j * all + i], format.nearest(expected[j])),
                    "operation " << j << " of " << static_cast<double>(x) << " " << static_cast<double>(y) << " "
                                 << static_cast<double>(z) << " is " << format.value(results[j * all + i]));
    }
  }
}

struct ShuffleBits {
  static constexpr int max_threads = 1;
  Global<uint32_t> out;

  DEVICE void operator()() const {
    const uint32_t a = 0xff00ff00u, b = 0x0ff00ff0u, c = 0x03020100u, d = 0x07060504u;
    out[0] = lop3<0xea>(a, b, 1);
    out[1] = lop3<0x96>(a, b, c);
    out[2] = lop3<(0xf0 & 0xcc) | 0xaa>(a, b, d);
    out[3] = byte_permute(c, d, 0x7531);
    out[4] = byte_permute(0x80000012u, 0, 0xb8b8);
    out[5] = static_cast<uint32_t>(find_first_set(0) * 100 + find_first_set(8));
  }
};

struct ComputeFloats {
  static constexpr int max_threads = threads;
  Global<const float> in;
  Global<float> out;  // [2, threads]

  DEVICE void operator()() const {
    const float x = in[thread_index().x];
    const float results[2] = {exp2_approx(x), exp(x)};
    for (uint32_t i = 0; i < 2; ++i) out[i * threads + thread_index().x] = results[i];
  }
};

}  // namespace

TEST(cuda_numbers_convert_halves) { check_conversions<half>(half_format); }
TEST(cuda_numbers_convert_bfloat16s) { check_conversions<bfloat16>(bfloat16_format); }
TEST(cuda_numbers_compute_with_halves) { check_arithmetic<half>(half_format); }
TEST(cuda_numbers_compute_with_bfloat16s) { check_arithmetic<bfloat16>(bfloat16_format); }

// 7 * 37 = 259 lies in the middle of two bfloat16s; what is added decides, however small it is.
TEST(cuda_numbers_fuse_with_one_rounding) {
  const struct {
    double a, b, c, expected;
  } cases[] = {{7, 37, 0, 260},          {7, 37, 0x1p-60, 260}, {7, 37, -0x1p-60, 258}, {7, -37, 0x1p-60, -258},
               {7, -37, -0x1p-60, -260}, {7, 39, 0x1p-60, 274}, {7, 39, -0x1p-60, 272}, {7, 39, 0, 272}};
  std::vector<uint16_t> operands[3];
  for (const auto& [a, b, c, expected] : cases) {
    operands[0].push_back(bfloat16_format.nearest(a));
    operands[1].push_back(bfloat16_format.nearest(b));
    operands[2].push_back(bfloat16_format.nearest(c));
  }
  Stream stream(Device::at(0));
  const DeviceMemory a = upload(stream, operands[0]), b = upload(stream, operands[1]), c = upload(stream, operands[2]);
  const DeviceMemory out(stream.device(), 2 * a.bytes());
  const auto count = static_cast<uint32_t>(operands[0].size());
  launch(stream, shape_for(count),
         Compute<bfloat16>{a.as<bfloat16>(), b.as<bfloat16>(), c.as<bfloat16>(), out.as<bfloat16>(), count});
  const auto results = download<uint16_t>(stream, out);
  for (uint32_t i = 0; i < count; ++i) {
    const double result = bfloat16_format.value(results[count + i]);
    CHECK_MESSAGE(result == cases[i].expected,
                  cases[i].a << " * " << cases[i].b << " + " << cases[i].c << " = " << result);
  }
}

TEST(cuda_numbers_shuffle_bits) {
  Stream stream(Device::at(0));
  const DeviceMemory out(stream.device(), 6 * sizeof(uint32_t));
  launch(stream, {}, ShuffleBits{out.as<uint32_t>()});
  const std::vector<uint32_t> expected{0x0f000f01u,
                                       0xff00ff00u ^ 0x0ff00ff0u ^ 0x03020100u,
                                       (0xff00ff00u & 0x0ff00ff0u) | 0x07060504u,
                                       0x07050301u,
                                       0xff00ff00u,
                                       4};
  const auto results = download<uint32_t>(stream, out);
  for (size_t i = 0; i < expected.size(); ++i) CHECK_MESSAGE(results[i] == expected[i], i << ": " << results[i]);
}

TEST(cuda_numbers_exponential_functions) {
  Stream stream(Device::at(0));
  std::vector<float> values;
  for (uint32_t i = 0; i < threads; ++i) values.push_back(static_cast<float>(i) * 0.25f - 31.9f);
  const DeviceMemory in = upload(stream, values), out(stream.device(), 2 * in.bytes());
  launch(stream, {.block = {threads}}, ComputeFloats{in.as<float>(), out.as<float>()});
  const auto results = download<float>(stream, out);
  for (uint32_t i = 0; i < threads; ++i) {
    const double x = values[i];
    const double expected[2] = {std::exp2(x), std::exp(x)};
    for (uint32_t j = 0; j < 2; ++j) {
      const double off = std::fabs(results[j * threads + i] - expected[j]);
      CHECK_MESSAGE(off <= 4e-6 * std::fabs(expected[j]), "function " << j << " of " << x);
    }
  }
}

}  // namespace billfish::BILLFISH_TARGET
