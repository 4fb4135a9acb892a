#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// In fp32, rounded once.
template <class X, class Gate, bool of_row>
struct SigmoidMul {
  Global<X> x;
  Global<const Gate> gate;
  int64_t x_stride, gate_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float values[count], gates[count];
    const Global<X> at = x + (row * x_stride + column);
    load_floats<count, X>(at, values);
    if constexpr (of_row) {
      const Gate one = gate[row * gate_stride];
      UNROLL for (int i = 0; i < count; ++i) gates[i] = to_float(one);
    } else {
      load_floats<count, Gate>(gate + (row * gate_stride + column), gates);
    }
    UNROLL for (int i = 0; i < count; ++i) values[i] /= 1.0f + exp(-gates[i]);
    store_floats<count, X>(at, values);
  }
};

template <class X, class Gate, class Element>
void sigmoid_mul(OperatorContext<Element>& context, const Call<billfish::SigmoidMul>& call) {
  const Matrix<X> x = context.template matrix<X>(call.x);
  const Matrix<Gate> gate = context.template matrix<Gate>(call.gate);
  if (gate.columns == 1) {
    for_each_vector(context.stream, x.rows, x.columns, is_wide(x),
                    SigmoidMul<X, Gate, true>{x.data, gate.data, x.stride, gate.stride});
  } else {
    for_each_vector(context.stream, x.rows, x.columns, is_wide(x) && is_wide(gate),
                    SigmoidMul<X, Gate, false>{x.data, gate.data, x.stride, gate.stride});
  }
}

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::SigmoidMul>& call) {
  if (call.x.type == DType::f32) {
    sigmoid_mul<float, float>(context, call);
  } else if (call.gate.type == DType::f32) {
    sigmoid_mul<Element, float>(context, call);
  } else {
    sigmoid_mul<Element, Element>(context, call);
  }
}

BILLFISH_INSTANTIATE_RUN(SigmoidMul);

}  // namespace billfish::BILLFISH_TARGET
