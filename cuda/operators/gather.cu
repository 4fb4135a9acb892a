#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

struct GatherRows {
  Global<const float> x;
  Global<const int32_t> rows;
  Global<float> out;
  int64_t x_stride, out_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count];
    const int64_t from = int32_t{rows[row]};
    load_floats<count, float>(x + (from * x_stride + column), values);
    store_floats<count, float>(out + (row * out_stride + column), values);
  }
};

}  // namespace

// Of the residual stream, which is fp32.
template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Gather>& call) {
  const Matrix<float> x = context.template matrix<float>(call.x), out = context.template matrix<float>(call.out);
  for_each_vector(context.stream, out.rows, out.columns, is_wide(x) && is_wide(out),
                  GatherRows{x.data, context.batch->logit_rows() + call.first, out.data, x.stride, out.stride});
}

BILLFISH_INSTANTIATE_RUN(Gather);

}  // namespace billfish::BILLFISH_TARGET
