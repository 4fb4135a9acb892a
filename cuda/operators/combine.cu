#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// In fp32, in the order of a token's slots.
template <class Element, class Out>
struct Combine {
  Global<const Element> x;
  Global<const float> weights;
  Global<Out> out;
  int64_t x_stride, weights_stride, out_stride, columns;
  int32_t slots;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float sum[count] = {};
    for (int32_t slot = 0; slot < slots; ++slot) {
      float values[count];
      load_floats<count, Element>(x + (row * x_stride + slot * columns + column), values);
      const float weight = weights[row * weights_stride + slot];
      UNROLL for (int i = 0; i < count; ++i) sum[i] += weight * values[i];
    }
    store_floats<count, Out>(out + (row * out_stride + column), sum);
  }
};

template <class Element, class Out>
void combine(OperatorContext<Element>& context, const Call<billfish::Combine>& call) {
  const Matrix<Element> x = context.template matrix<Element>(call.x);
  const Matrix<float> routing = context.template matrix<float>(call.routing);
  const Matrix<Out> out = context.template matrix<Out>(call.out);
  const int64_t slots = routing.columns / 2;
  for_each_vector(context.stream, out.rows, out.columns, is_wide(x) && is_wide(out) && out.columns % wide == 0,
                  Combine<Element, Out>{x.data, routing.data + slots, out.data, x.stride, routing.stride, out.stride,
                                        out.columns, static_cast<int32_t>(slots)});
}

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Combine>& call) {
  if (call.out.type == DType::f32) {
    combine<Element, float>(context, call);
  } else {
    combine<Element, Element>(context, call);
  }
}

BILLFISH_INSTANTIATE_RUN(Combine);

}  // namespace billfish::BILLFISH_TARGET
