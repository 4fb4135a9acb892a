// What operators_test.cc does not see of the CUDA layer: conversions, and what norms refuse.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "layer/tensor.h"
#include "operators/operator_context.h"
#include "primitives/numbers.h"
#include "support/check.h"
#include "support/kernel_numbers.h"
#include "support/kernel_testing.h"

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

// Calls body(type, an Element of it) for both 16-bit types.
template <class Body>
void for_both_types(const Body& body) {
  body(DType::f16, half{});
  body(DType::bf16, bfloat16{});
}

struct Width {
  int64_t columns, gap;
};

}  // namespace

TEST(cuda_norms_of_too_many_columns_say_so) {
  Stream stream(Device::at(0));
  const DeviceMemory memory(stream.device(), 65536 * sizeof(float));
  OperatorContext<half> context{stream};
  VectorWeight weight;
  weight.values = memory.as<float>();
  const Tensor x{memory.data(), DType::f32, 1, 16392, 16392}, out{memory.data(), DType::f16, 1, 16392, 16392};
  CHECK_THROWS(run(context, Call<billfish::LayerNorm>{x, &weight, nullptr, 1e-5f, out}), "UNSUPPORTED_MODEL");
  CHECK_THROWS(run(context, Call<billfish::RmsNorm>{x, &weight, 16392, 1e-5f, out}), "UNSUPPORTED_MODEL");
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
