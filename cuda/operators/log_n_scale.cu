#include <cmath>

#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

template <class Element>
struct LogNScale {
  Global<Element> x;
  int64_t stride;
  Global<const int32_t> positions;
  int32_t length;
  float log_length;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    const int32_t position = positions[row];
    if (position < length) return;
    const float factor = log(static_cast<float>(position + 1)) / log_length;
    float values[count];
    const Global<Element> at = x + (row * stride + column);
    load_floats<count, Element>(at, values);
    UNROLL for (int i = 0; i < count; ++i) values[i] *= factor;
    store_floats<count, Element>(at, values);
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::LogNScale>& call) {
  const Matrix<Element> x = context.template matrix<Element>(call.x);
  const float log_length = std::log(static_cast<float>(call.length));
  for_each_vector(context.stream, x.rows, x.columns, is_wide(x),
                  LogNScale<Element>{x.data, x.stride, context.batch->positions(), call.length, log_length});
}

BILLFISH_INSTANTIATE_RUN(LogNScale);

}  // namespace billfish::BILLFISH_TARGET
