// The row-by-row operators of the CUDA layer against plain fp64 loops.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "layer/elementwise.h"
#include "layer/embedding.h"
#include "layer/layer_norm.h"
#include "layer/rms_norm.h"
#include "primitives/numbers.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"
#include "support/norm_reference.h"

using namespace billfish;
using namespace billfish::BILLFISH_TARGET;

namespace {

// Where a row is written, the gap to the next row must stay as it was.
constexpr uint16_t untouched_bits = 0x7e55;  // a NaN
constexpr float untouched = -12345.0f;

// A matrix on the device, rows `gap` elements apart. T: float, or 16-bit floats as bits.
template <class T>
class DeviceRows {
 public:
  DeviceRows(Stream& stream, const std::vector<T>& dense, int64_t columns, int64_t gap)
      : columns_(columns), stride_(columns + gap) {
    std::vector<T> values;
    for (size_t i = 0; i < dense.size(); i += static_cast<size_t>(columns)) {
      values.insert(values.end(), dense.begin() + static_cast<int64_t>(i),
                    dense.begin() + static_cast<int64_t>(i) + columns);
      values.insert(values.end(), static_cast<size_t>(gap), gap_value());
    }
    rows_ = static_cast<int64_t>(dense.size()) / columns;
    memory_ = upload(stream, values);
  }
  template <class E>
  Matrix<E> matrix() const {
    static_assert(sizeof(E) == sizeof(T));
    return {memory_.as<E>(), rows_, columns_, stride_};
  }
  std::vector<T> dense(Stream& stream) const {
    const std::vector<T> all = download<T>(stream, memory_);
    std::vector<T> values;
    for (size_t i = 0; i < static_cast<size_t>(rows_ * stride_); ++i) {
      if (static_cast<int64_t>(i) % stride_ < columns_) {
        values.push_back(all[i]);
      } else {
        CHECK_MESSAGE(all[i] == gap_value(), "written beyond column " << columns_);
      }
    }
    return values;
  }

 private:
  static T gap_value() {
    if constexpr (sizeof(T) == 2) {
      return untouched_bits;
    } else {
      return untouched;
    }
  }
  int64_t rows_ = 0, columns_, stride_;
  DeviceMemory memory_;
};

void check_close(const std::vector<float>& got, const std::vector<double>& wanted, double relative, double absolute,
                 const char* what) {
  CHECK(got.size() == wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CHECK_MESSAGE(std::abs(got[i] - wanted[i]) <= relative * std::abs(wanted[i]) + absolute,
                  what << ": element " << i << " is " << got[i] << ", not " << wanted[i]);
  }
}

// Calls body(type, an Element of it) for both 16-bit types.
template <class Body>
void for_both_types(const Body& body) {
  body(DType::f16, half{});
  body(DType::bf16, bfloat16{});
}

struct Width {
  int64_t columns, gap;
};
// Rows that are read 16 bytes at a time, and rows that cannot be.
constexpr Width widths[] = {{1, 0}, {5, 3}, {8, 8}, {64, 0}, {136, 24}, {200, 1}, {1100, 4}, {4104, 8}};

}  // namespace

TEST(cuda_embedding) {
  for (const Width& width : {Width{7, 1}, Width{64, 0}, Width{136, 8}}) {
    const int64_t columns = width.columns;
    const std::vector<float> values = random_floats(20 * columns, 1);
    const std::vector<int32_t> ids = {24, 5, 12, 12, 8, 4, 25, 0};  // the last three have no row
    constexpr int64_t first = 5;
    const auto check = [&](const auto& table, auto element, const std::vector<float>& exact) {
      in_every_schedule([&] {
        Stream stream(Device::at(0));
        const DeviceMemory tokens = upload(stream, ids);
        using T = std::remove_cvref_t<decltype(table[0])>;
        const DeviceRows<T> on_device(stream, table, columns, 0);
        const DeviceRows<float> out(stream, std::vector<float>(ids.size() * static_cast<size_t>(columns)), columns,
                                    width.gap);
        embedding<decltype(element)>(stream, on_device.template matrix<const decltype(element)>(), first,
                                     tokens.as<int32_t>(), out.matrix<float>());
        const std::vector<float> got = out.dense(stream);
        for (size_t r = 0; r < ids.size(); ++r) {
          for (int64_t c = 0; c < columns; ++c) {
            const float expected = r < 5 ? exact[static_cast<size_t>((ids[r] - first) * columns + c)] : 0.0f;
            CHECK(got[r * static_cast<size_t>(columns) + static_cast<size_t>(c)] == expected);
          }
        }
      });
    };
    check(values, float{}, values);
    for_both_types([&](DType type, auto element) {
      const std::vector<uint16_t> bits = narrow(type, values);
      check(bits, element, widen(type, bits));
    });
  }
}

TEST(cuda_rms_norm_and_add_rms_norm) {
  const float eps = 1e-6f;
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    for (const Width& width : widths) {
      const int64_t rows = 3, columns = width.columns;
      const std::vector<float> x = random_floats(rows * columns, 3, 5.0f), weight = random_floats(columns, 5);
      const std::vector<uint16_t> y = narrow(type, random_floats(rows * columns, 4));
      for (const bool with_add : {false, true}) {
        std::vector<double> wanted, sums;
        for (int64_t r = 0; r < rows; ++r) {
          double squares = 0;
          for (int64_t c = 0; c < columns; ++c) {
            const auto i = static_cast<size_t>(r * columns + c);
            sums.push_back(static_cast<double>(x[i]) + (with_add ? widen(type, y[i]) : 0.0f));
            squares += sums.back() * sums.back();
          }
          const double factor = 1 / std::sqrt(squares / static_cast<double>(columns) + eps);
          for (int64_t c = 0; c < columns; ++c) {
            wanted.push_back(sums[static_cast<size_t>(r * columns + c)] * factor * weight[static_cast<size_t>(c)]);
          }
        }
        in_every_schedule([&] {
          Stream stream(Device::at(0));
          const DeviceRows<float> in(stream, x, columns, width.gap);
          const DeviceRows<uint16_t> addend(stream, y, columns, 0);
          const DeviceRows<uint16_t> out(stream, std::vector<uint16_t>(x.size()), columns, width.gap);
          const DeviceMemory weights = upload(stream, weight);
          if (with_add) {
            add_rms_norm<Element>(stream, in.matrix<float>(), addend.matrix<const Element>(), weights.as<float>(), eps,
                                  out.matrix<Element>());
            check_close(in.dense(stream), sums, 1e-7, 1e-7, "x + y");
          } else {
            rms_norm<float, Element>(stream, in.matrix<const float>(), weights.as<float>(), columns, eps,
                                     out.matrix<Element>());
          }
          check_close(widen(type, out.dense(stream)), wanted, 1.01 * rounding(type), 1e-6, "rms_norm");
        });
      }
    }
  });
}

TEST(cuda_rms_norm_of_heads_in_place) {
  struct Case {
    int64_t heads, head_dim, gap;
  };
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    // Several heads a warp, half a warp, a head beyond a warp's 256 columns, rows that are not aligned.
    for (const Case& c : {Case{5, 32, 0}, Case{3, 48, 8}, Case{9, 128, 0}, Case{2, 256, 16}, Case{2, 264, 0},
                          Case{3, 64, 5}, Case{2, 20, 0}}) {
      const int64_t rows = 3;
      const std::vector<uint16_t> x = narrow(type, random_floats(rows * c.heads * c.head_dim, 6));
      const std::vector<float> weight = random_floats(c.head_dim, 7);
      std::vector<double> wanted;
      for (int64_t head = 0; head < rows * c.heads; ++head) {
        double squares = 0;
        for (int64_t i = 0; i < c.head_dim; ++i) {
          squares += std::pow(widen(type, x[static_cast<size_t>(head * c.head_dim + i)]), 2.0);
        }
        for (int64_t i = 0; i < c.head_dim; ++i) {
          wanted.push_back(widen(type, x[static_cast<size_t>(head * c.head_dim + i)]) /
                           std::sqrt(squares / static_cast<double>(c.head_dim) + 1e-5) *
                           weight[static_cast<size_t>(i)]);
        }
      }
      in_every_schedule([&] {
        Stream stream(Device::at(0));
        const DeviceRows<uint16_t> in(stream, x, c.heads * c.head_dim, c.gap);
        const DeviceMemory weights = upload(stream, weight);
        rms_norm<Element, Element>(stream, in.matrix<const Element>(), weights.as<float>(), c.head_dim, 1e-5f,
                                   in.matrix<Element>());
        check_close(widen(type, in.dense(stream)), wanted, 1.01 * rounding(type), 1e-7, "rms_norm of heads");
      });
    }
  });
}

// Deviations of 1 beside means of which a float has 7 digits: the norm must lose none of the deviations'.
TEST(cuda_layer_norm) {
  const float eps = 1e-5f;
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    for (const Width& width : widths) {
      const int64_t rows = 3, columns = width.columns;
      const std::vector<float> weight = random_floats(columns, 5), bias = random_floats(columns, 6);
      std::vector<float> x = random_floats(rows * columns, 4);
      const float means[rows] = {0.5f, -1e4f, 1e5f};
      for (size_t i = 0; i < x.size(); ++i) x[i] += means[i / static_cast<size_t>(columns)];
      for (const bool with_bias : {false, true}) {
        const std::vector<double> wanted =
            layer_norm_reference(x, columns, weight, with_bias ? bias : std::vector<float>(), eps);
        in_every_schedule([&] {
          Stream stream(Device::at(0));
          const DeviceRows<float> in(stream, x, columns, width.gap);
          const DeviceRows<uint16_t> out(stream, std::vector<uint16_t>(x.size()), columns, width.gap);
          const DeviceMemory weights = upload(stream, weight), addends = upload(stream, bias);
          layer_norm<float, Element>(stream, in.matrix<const float>(), weights.as<float>(),
                                     with_bias ? addends.as<float>() : nullptr, eps, out.matrix<Element>());
          check_close(widen(type, out.dense(stream)), wanted, 1.01 * rounding(type), 2e-6, "layer_norm");
        });
      }
    }
  });
}

TEST(cuda_layer_norm_of_activations_in_place) {
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    for (const Width& width : {Width{37, 2}, Width{136, 8}}) {
      std::vector<float> x = random_floats(2 * width.columns, 7, 3.0f);
      for (float& value : x) value += 20;
      const std::vector<uint16_t> bits = narrow(type, x);
      const std::vector<float> weight = random_floats(width.columns, 8), bias = random_floats(width.columns, 9);
      const std::vector<double> wanted = layer_norm_reference(widen(type, bits), width.columns, weight, bias, 1e-5f);
      in_every_schedule([&] {
        Stream stream(Device::at(0));
        const DeviceRows<uint16_t> in(stream, bits, width.columns, width.gap);
        const DeviceMemory weights = upload(stream, weight), addends = upload(stream, bias);
        layer_norm<Element, Element>(stream, in.matrix<const Element>(), weights.as<float>(), addends.as<float>(),
                                     1e-5f, in.matrix<Element>());
        check_close(widen(type, in.dense(stream)), wanted, 1.01 * rounding(type), 2e-6, "layer_norm in place");
      });
    }
  });
}

TEST(cuda_norms_of_too_many_columns_say_so) {
  Stream stream(Device::at(0));
  const DeviceMemory memory(stream.device(), 65536 * sizeof(float));
  const Matrix<float> x{memory.as<float>(), 1, 16392, 16392};
  const Matrix<half> out{memory.as<half>(), 1, 16392, 16392};
  CHECK_THROWS((layer_norm<float, half>(stream, x, memory.as<float>(), nullptr, 1e-5f, out)), "UNSUPPORTED_MODEL");
  CHECK_THROWS((rms_norm<float, half>(stream, x, memory.as<float>(), 16392, 1e-5f, out)), "UNSUPPORTED_MODEL");
}

TEST(cuda_silu_mul_and_add) {
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    for (const Width& width : widths) {
      for (const int64_t rows : {int64_t{0}, int64_t{1}, int64_t{3}}) {
        std::vector<float> gate = random_floats(rows * width.columns, 8, 4.0f);
        for (size_t i = 0; i < gate.size(); i += 7) gate[i] *= 20;  // far into both tails of the sigmoid
        const std::vector<uint16_t> a = narrow(type, gate), b = narrow(type, random_floats(rows * width.columns, 9));
        std::vector<double> gated, sums;
        for (size_t i = 0; i < a.size(); ++i) {
          const double g = widen(type, a[i]), u = widen(type, b[i]);
          gated.push_back(g / (1 + std::exp(-g)) * u);
          sums.push_back(static_cast<double>(gate[i]) + u);
        }
        in_every_schedule([&] {
          Stream stream(Device::at(0));
          const DeviceRows<uint16_t> x(stream, a, width.columns, width.gap), y(stream, b, width.columns, 0);
          const DeviceRows<float> sum(stream, gate, width.columns, width.gap);
          silu_mul<Element>(stream, x.matrix<Element>(), y.matrix<const Element>());
          // fp16 has no normal numbers below 6e-5: there the error is half of the smallest one.
          check_close(widen(type, x.dense(stream)), gated, 1.01 * rounding(type), 3e-8, "silu_mul");
          add<Element>(stream, sum.matrix<float>(), y.matrix<const Element>());
          check_close(sum.dense(stream), sums, 1e-7, 1e-7, "add");
        });
      }
    }
  });
}

TEST(cuda_silu_mul_at_the_ends) {
  const float infinity = std::numeric_limits<float>::infinity();
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    Stream stream(Device::at(0));
    const DeviceRows<uint16_t> gate(stream, narrow(type, {NAN, -3e4f, 3e4f, 0.0f, -100.0f, infinity, -90, 1}), 8, 0);
    const DeviceRows<uint16_t> up(stream, narrow(type, {1, 1, 1, 1, 1, 1, 1, 1}), 8, 0);
    silu_mul<Element>(stream, gate.matrix<Element>(), up.matrix<const Element>());
    const std::vector<float> out = widen(type, gate.dense(stream));
    CHECK(std::isnan(out[0]));
    CHECK(out[1] == 0);
    CHECK(out[2] == widen(type, narrow(type, 3e4f)));
    CHECK(out[3] == 0);
    CHECK(std::abs(out[4]) < 1e-35f);
    CHECK(out[5] == infinity);
    CHECK(std::abs(out[6]) < 1e-30f);
  });
}

TEST(cuda_log_n_scale_and_gather_rows) {
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    for (const Width& width : {Width{37, 2}, Width{136, 8}}) {
      const int64_t rows = 4;
      const std::vector<uint16_t> x = narrow(type, random_floats(rows * width.columns, 11));
      const std::vector<int32_t> positions = {5, 2047, 2048, 8000}, chosen = {3, 1, 1};
      const double factors[] = {1, 1, std::log(2049.0) / std::log(2048.0), std::log(8001.0) / std::log(2048.0)};
      std::vector<double> wanted;
      for (size_t i = 0; i < x.size(); ++i) {
        wanted.push_back(widen(type, x[i]) * factors[i / static_cast<size_t>(width.columns)]);
      }
      in_every_schedule([&] {
        Stream stream(Device::at(0));
        const DeviceRows<uint16_t> scaled(stream, x, width.columns, width.gap);
        const DeviceMemory on_device = upload(stream, positions), rows_wanted = upload(stream, chosen);
        const DeviceRows<uint16_t> out(stream, std::vector<uint16_t>(chosen.size() * width.columns), width.columns, 0);
        gather_rows<Element>(stream, scaled.matrix<const Element>(), rows_wanted.as<int32_t>(), out.matrix<Element>());
        const std::vector<uint16_t> picked = out.dense(stream);
        for (size_t i = 0; i < picked.size(); ++i) {
          const auto columns = static_cast<size_t>(width.columns);
          CHECK(picked[i] == x[static_cast<size_t>(chosen[i / columns]) * columns + i % columns]);
        }
        log_n_scale<Element>(stream, scaled.matrix<Element>(), on_device.as<int32_t>(), 2048);
        check_close(widen(type, scaled.dense(stream)), wanted, 1.01 * rounding(type), 0, "log_n_scale");
      });
    }
  });
}

TEST(cuda_convert_rounds_and_saturates) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> values = random_floats(41, 12, 100.0f);
  for (const float special : {0.0f, -0.0f, infinity, -infinity, 65504.0f, 65519.9f, 65520.0f, -1e6f, 3.4e38f, -3.4e38f,
                              1e-8f, 6e-8f, -3e-5f, 1e-40f, 2049.0f, 2051.0f, 1.00390625f, 1.01171875f, NAN}) {
    values.push_back(special);
  }
  for_both_types([&](DType type, auto element) {
    using Element = decltype(element);
    const float most = type == DType::f16 ? 65504.0f : bf16_to_float(0x7f7f);
    for (const Width& width : {Width{30, 0}, Width{60, 5}}) {
      Stream stream(Device::at(0));
      const DeviceRows<float> in(stream, values, width.columns, width.gap), back(stream, values, width.columns, 0);
      const DeviceRows<uint16_t> out(stream, std::vector<uint16_t>(values.size()), width.columns, width.gap);
      convert<float, Element>(stream, in.matrix<const float>(), out.matrix<Element>());
      convert<Element, float>(stream, out.matrix<const Element>(), back.matrix<float>());
      const std::vector<uint16_t> bits = out.dense(stream);
      const std::vector<float> again = back.dense(stream);
      for (size_t i = 0; i < values.size(); ++i) {
        if (std::isnan(values[i])) {
          CHECK(std::isnan(again[i]));
          continue;
        }
        CHECK(bits[i] == narrow(type, std::isinf(values[i]) ? values[i] : std::clamp(values[i], -most, most)));
        CHECK(again[i] == widen(type, bits[i]));
      }
    }
  });
}
