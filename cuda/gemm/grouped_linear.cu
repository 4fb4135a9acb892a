#include "gemm/grouped_linear.h"

#include <string>

#include "engine/error.h"
#include "engine/operands.h"
#include "gemm/grouping.h"
#include "gemm/launch.h"
#include "gemm/slot_inputs.h"

namespace billfish::BILLFISH_TARGET {

template <class Element>
static void launch_kind(Stream& stream, const GemmLaunch& shape, const GroupedArguments& arguments,
                        const LinearWeight& weight) {
  visit_kind(weight,
             [&]<int bits, CodeKind kind>() { launch_grouped_gemm<Element, bits, kind>(stream, shape, arguments); });
}

static bool same_kind(const LinearWeight& a, const LinearWeight& b) {
  return a.bits == b.bits && a.in == b.in && a.group_size == b.group_size && a.scale_type == b.scale_type &&
         a.kind() == b.kind() && a.order == b.order;  // an order is of one weight
}

template <class Element>
void grouped_linear(Stream& stream, const GroupedCall* calls, int count, const Matrix<const Element>& x,
                    const Matrix<const float>& routing, int32_t first, void* memory, Element* gathered,
                    const GemmMachine& machine) {
  if (x.rows == 0) return;
  const int64_t per_token = routing.columns / 2, slots = x.rows * per_token;
  for (int begin = 0, end; begin < count; begin = end) {
    const LinearWeight& weight = *calls[begin].linear.weight;
    const auto experts = static_cast<int32_t>(weight.out / expert_rows(calls[begin].outputs));
    if (weight.in % 8 != 0 || x.stride % 8 != 0 || experts > gpu::max_experts) {
      throw Error("INTERNAL", "Experts of " + std::to_string(weight.in) + " inputs, in rows of " +
                                  std::to_string(x.stride) + ", have no kernel.");
    }
    // Neighbors of a kind run as one.
    LinearWeight of_expert[GemmArguments::max_targets];
    LinearCall together[GemmArguments::max_targets];
    int64_t outputs[GemmArguments::max_targets];
    for (end = begin; end < count && end - begin < GemmArguments::max_targets; ++end) {
      if (!same_kind(weight, *calls[end].linear.weight)) break;
      const int i = end - begin;
      of_expert[i] = *calls[end].linear.weight;
      of_expert[i].out = calls[end].outputs;
      together[i] = calls[end].linear;
      together[i].weight = &of_expert[i];
    }
    const int taken = end - begin;
    const GemmPlan plan = plan_grouped(machine, problem_of(together, taken, slots, outputs), experts);
    if (plan.stages == 0) throw Error("INTERNAL", "No tile of the GEMM of experts fits into " + stream.device().name());

    const Grouping grouping = group_slots(stream, routing, first, experts, plan.shape.tokens, memory);
    GroupedArguments arguments = {};
    const int64_t slot_columns = x.columns == weight.in ? 0 : weight.in;
    Matrix<const Element> inputs{x.data, x.rows, weight.in, x.stride};
    if (weight.order != nullptr) {
      gather_slots<Element>(stream, x, routing, {weight.order, first, experts, weight.in, slot_columns}, gathered);
      inputs = {gathered, x.rows, weight.in, per_token * weight.in};
    }
    static_cast<GemmArguments&>(arguments) = gemm_arguments<Element>(together, taken, inputs, plan);
    arguments.slots = grouping.slots;
    arguments.tiles = grouping.tiles;
    arguments.tile_count = grouping.tile_count;
    arguments.per_token = static_cast<int32_t>(per_token);
    arguments.experts = experts;
    const int64_t between = weight.order != nullptr ? weight.in : slot_columns;
    arguments.x_slot_pitch = static_cast<uint32_t>(between * sizeof(Element));
    for (int i = 0; i < taken; ++i) {
      GemmTarget& target = arguments.targets[i];
      target.wide = target.wide && outputs[i] % 4 == 0;
      arguments.column_tiles += static_cast<int32_t>((outputs[i] + plan.shape.outputs - 1) / plan.shape.outputs);
    }
    launch_kind<Element>(stream, {plan.tile, plan.blocks, plan.shared_bytes}, arguments, weight);
  }
}

template void grouped_linear<half>(Stream&, const GroupedCall*, int, const Matrix<const half>&,
                                   const Matrix<const float>&, int32_t, void*, half*, const GemmMachine&);
template void grouped_linear<bfloat16>(Stream&, const GroupedCall*, int, const Matrix<const bfloat16>&,
                                       const Matrix<const float>&, int32_t, void*, bfloat16*, const GemmMachine&);

}  // namespace billfish::BILLFISH_TARGET
