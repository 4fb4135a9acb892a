#include "layer/for_each_vector.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// In fp32, rounded once. 6 bytes an element.
template <class Element>
struct SiluMul {
  Global<Element> gate;
  Global<const Element> up;
  int64_t gate_stride, up_stride;

  template <int count>
  DEVICE void apply(int64_t row, int64_t column) const {
    float g[count], u[count];
    const Global<Element> at = gate + (row * gate_stride + column);
    load_floats<count, Element>(at, g);
    load_floats<count, Element>(up + (row * up_stride + column), u);
    // exp(-g) is infinity for g < -88.7, and the quotient then zero, as it should be.
    UNROLL for (int i = 0; i < count; ++i) g[i] = g[i] / (1.0f + exp(-g[i])) * u[i];
    store_floats<count, Element>(at, g);
  }
};

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::SiluMul>& call) {
  const Matrix<Element> gate = context.template matrix<Element>(call.gate);
  const Matrix<Element> up = context.template matrix<Element>(call.up);
  for_each_vector(context.stream, gate.rows, gate.columns, is_wide(gate) && is_wide(up),
                  SiluMul<Element>{gate.data, up.data, gate.stride, up.stride});
}

BILLFISH_INSTANTIATE_RUN(SiluMul);

}  // namespace billfish::BILLFISH_TARGET
