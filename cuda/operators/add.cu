#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// 10 bytes an element.
template <class Element>
struct Add {
  Global<float> x;
  Global<const Element> y;
  int64_t x_stride, y_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float a[count], b[count];
    const Global<float> at = x + (row * x_stride + column);
    load_floats<count, float>(at, a);
    load_floats<count, Element>(y + (row * y_stride + column), b);
    UNROLL for (int i = 0; i < count; ++i) a[i] += b[i];
    store_floats<count, float>(at, a);
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Add>& call) {
  const Matrix<float> x = context.template matrix<float>(call.x);
  const Matrix<Element> y = context.template matrix<Element>(call.y);
  for_each_vector(context.stream, x.rows, x.columns, is_wide(x) && is_wide(y),
                  Add<Element>{x.data, y.data, x.stride, y.stride});
}

BILLFISH_INSTANTIATE_RUN(Add);

}  // namespace billfish::BILLFISH_TARGET
