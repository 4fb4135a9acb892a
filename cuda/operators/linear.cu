#include "panels/linear.h"

#include "layer/tensor.h"
#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {

// Linears take 16-bit inputs. A head whose norm is in the stage before has it in fp32.
template <class Element>
static Matrix<const Element> narrowed(const OperatorContext<Element>& context, const Tensor& x) {
  if (x.type != DType::f32) return context.template matrix<Element>(x);
  const Matrix<Element> out{context.narrowed, x.rows, x.columns, x.columns};
  convert<float, Element>(context.stream, context.template matrix<float>(x), out);
  return out;
}

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::Linear>& call) {
  std::vector<LinearCall>& calls = context.linear_calls;
  calls.clear();
  for (const Call<LinearTarget>& target : call.targets) {
    calls.push_back({&linear_of(target.weight), target.out.data, target.out.stride, target.out.type});
  }
  linear<Element>(context.stream, calls.data(), static_cast<int>(calls.size()), narrowed(context, call.x),
                  context.linears);
}

BILLFISH_INSTANTIATE_RUN(Linear);

}  // namespace billfish::BILLFISH_TARGET
