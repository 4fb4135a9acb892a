#include "gemm/grouped_linear.h"

#include <algorithm>
#include <array>

#include "operators/operator_context.h"

namespace billfish::BILLFISH_TARGET {

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::GroupedLinear>& call) {
  const int64_t per_token = call.routing.columns / 2;
  const GemmMachine untuned = machine_of(context.stream.device());
  const GemmMachine& machine = context.linears.machine == nullptr ? untuned : *context.linears.machine;
  std::array<GroupedCall, GemmArguments::max_targets> calls;
  for (size_t first = 0; first < call.targets.size(); first += calls.size()) {
    const size_t count = std::min(calls.size(), call.targets.size() - first);
    for (size_t i = 0; i < count; ++i) {
      const Call<LinearTarget>& target = call.targets[first + i];
      const Tensor& out = target.out;
      calls[i] = {{&linear_of(target.weight), out.data, out.stride, out.type}, out.columns / per_token};
    }
    grouped_linear<Element>(context.stream, calls.data(), static_cast<int>(count),
                            context.template matrix<Element>(call.x), context.template matrix<float>(call.routing),
                            call.first, context.grouping, context.gathered, machine);
  }
}

BILLFISH_INSTANTIATE_RUN(GroupedLinear);

}  // namespace billfish::BILLFISH_TARGET
