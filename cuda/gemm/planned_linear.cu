#include "gemm/planned_linear.h"

#include <algorithm>
#include <bit>
#include <string>

#include "engine/error.h"
#include "gemm/launch.h"
#include "gemm/layout.h"
#include "runtime/libraries.h"

namespace billfish::BILLFISH_TARGET {

using gpu::counter_bytes, gpu::partial_bytes;

static_assert(matrix_library_bytes <= partial_bytes);
void* library_workspace(const LinearWorkspace& workspace) {
  return static_cast<uint8_t*>(workspace.data) + counter_bytes;
}

static GemmTarget target_of(const LinearCall& call, int first_column) {
  const LinearWeight& weight = *call.weight;
  GemmTarget target = {};
  if (weight.bits == 16) {
    target.weights = reinterpret_cast<const uint8_t*>(weight.elements);
    target.weight_pitch = static_cast<uint32_t>(weight.stride * sizeof(uint16_t));
  } else {
    target.weights = weight.codes;
    target.scales = weight.scales;
    target.zeros = weight.zeros;
    target.weight_pitch = static_cast<uint32_t>(round_up(weight.in, padded_inputs) / block_inputs) *
                          static_cast<uint32_t>(codes_block_bytes(weight.bits));
  }
  target.output_scales = weight.output_scales;
  target.bias = weight.bias;
  target.out = static_cast<uint8_t*>(call.out);
  target.out_stride = call.stride;
  target.columns = static_cast<int32_t>(weight.out);
  target.first_column = first_column;
  target.out_is_float = call.type == DType::f32;
  target.wide = call.stride % 4 == 0 && reinterpret_cast<uintptr_t>(call.out) % (4 * byte_size(call.type)) == 0;
  return target;
}

template <class Element>
static void launch_kind(Stream& stream, const GemmPlan& plan, const GemmArguments& arguments,
                        const LinearWeight& weight) {
  const GemmLaunch shape{plan.tile - (plan.shape.bulk ? QuantizedTiles::count : 0), plan.blocks, plan.shared_bytes};
  visit_kind(weight, [&]<int bits, CodeKind kind>() {
    if constexpr (bits != 16) {
      if (plan.shape.bulk) return launch_bulk_gemm<Element, bits, kind>(stream, shape, arguments);
    }
    launch_gemm<Element, bits, kind>(stream, shape, arguments);
  });
}

GemmMachine machine_of(const Device& device) {
  const DeviceProperties& properties = device.properties();
  return machine_of(properties.compute_capability, properties.code_architecture, properties.multiprocessors,
                    properties.shared_bytes_per_block, properties.shared_bytes_per_multiprocessor);
}

GemmProblem problem_of(const LinearCall* calls, int count, int64_t rows, int64_t* outputs) {
  const LinearWeight& weight = *calls[0].weight;
  for (int i = 0; i < count; ++i) outputs[i] = calls[i].weight->out;
  const int scale_bytes = weight.bits == 16 ? 0 : static_cast<int>(byte_size(weight.scale_type));
  return {weight.bits, scale_bytes, weight.zeros != nullptr, rows, weight.in, outputs, count};
}

template <class Element>
GemmArguments gemm_arguments(const LinearCall* calls, int count, const Matrix<const Element>& x, const GemmPlan& plan) {
  const LinearWeight& weight = *calls[0].weight;
  GemmArguments arguments = {};
  arguments.x = reinterpret_cast<const uint8_t*>(x.data);
  arguments.x_pitch = static_cast<uint32_t>(x.stride * sizeof(Element));
  arguments.rows = static_cast<int32_t>(x.rows);
  arguments.inputs = static_cast<int32_t>(x.columns);
  arguments.stages = plan.stages;
  arguments.stage_bytes = plan.stage_bytes;
  arguments.stages_end = plan.shared_bytes;
  arguments.stage_rows = static_cast<int32_t>(std::min<int64_t>(x.rows, plan.shape.tokens));
  arguments.k_tiles = static_cast<int32_t>(round_up(weight.in, plan.shape.inputs) / plan.shape.inputs);
  arguments.whole_k_tiles = static_cast<int32_t>(x.columns / plan.shape.inputs);
  arguments.token_tiles = static_cast<int32_t>(round_up(x.rows, plan.shape.tokens) / plan.shape.tokens);
  int columns = 0;
  for (int i = 0; i < count; ++i) {
    arguments.targets[i] = target_of(calls[i], columns);
    columns += static_cast<int>(round_up(calls[i].weight->out, plan.shape.outputs) / plan.shape.outputs);
  }
  arguments.count = count;
  arguments.units = static_cast<uint32_t>(plan.units);
  arguments.grain = plan.whole_tiles ? static_cast<uint32_t>(arguments.k_tiles) : 1;
  if (weight.bits != 16) {
    arguments.scale_type = weight.scale_type;
    arguments.scale_bytes = static_cast<int32_t>(byte_size(weight.scale_type));
    arguments.scale_shift = std::countr_zero(static_cast<uint32_t>(arguments.scale_bytes)) + 2;
    const int block = scale_block_inputs(arguments.scale_bytes);
    const int64_t group_size = packed_group_size(weight.group_size, weight.in);
    arguments.groups = static_cast<int32_t>((weight.in + group_size - 1) / group_size);
    arguments.group_shift = arguments.groups == 1 ? 31 : std::countr_zero(static_cast<uint64_t>(group_size / block));
    arguments.stage_groups = std::max(plan.shape.inputs / block >> arguments.group_shift, 1);
  }
  return arguments;
}

template <class Element>
void planned_linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                    const LinearWorkspace& workspace, const GemmPlan& plan) {
  GemmArguments arguments = gemm_arguments<Element>(calls, count, x, plan);
  uint8_t* const scratch = static_cast<uint8_t*>(workspace.data);
  arguments.counters = reinterpret_cast<int32_t*>(scratch);
  arguments.partials = reinterpret_cast<float*>(scratch + counter_bytes);
  if (plan.units * plan.blocks >> 32 != 0) {
    throw Error("INTERNAL", "A linear of " + std::to_string(x.rows) + " rows with " + std::to_string(plan.units) +
                                " units of work for " + std::to_string(plan.blocks) + " blocks is beyond 2^32.");
  }
  launch_kind<Element>(stream, plan, arguments, *calls[0].weight);
}

template GemmArguments gemm_arguments<half>(const LinearCall*, int, const Matrix<const half>&, const GemmPlan&);
template GemmArguments gemm_arguments<bfloat16>(const LinearCall*, int, const Matrix<const bfloat16>&, const GemmPlan&);

template void planned_linear<half>(Stream&, const LinearCall*, int, const Matrix<const half>&, const LinearWorkspace&,
                                   const GemmPlan&);
template void planned_linear<bfloat16>(Stream&, const LinearCall*, int, const Matrix<const bfloat16>&,
                                       const LinearWorkspace&, const GemmPlan&);

}  // namespace billfish::BILLFISH_TARGET
