#include "gemm/linear.h"

#include <algorithm>
#include <bit>
#include <string>

#include "engine/error.h"
#include "gemm/arguments.h"
#include "gemm/gather_columns.h"
#include "gemm/launch.h"
#include "gemm/layout.h"
#include "gemm/planned_linear.h"
#include "gemm/repack.h"
#include "gemm/tiles.h"
#include "panels/panel_choice.h"
#include "panels/panels.h"
#include "runtime/libraries.h"

namespace billfish::BILLFISH_TARGET {

// --- Memory and loading.

static void check_shape(const CanonicalShape& shape) {
  if (shape.bits != 4 && shape.bits != 8) {
    throw Error("UNSUPPORTED_MODEL",
                shape.name + " has " + std::to_string(shape.bits) + "-bit weights; GPUs take 4 and 8 bits.");
  }
  if (shape.groups() > 1 && shape.group_size % scale_block_inputs != 0) {
    throw Error("UNSUPPORTED_MODEL", shape.name + " has groups of " + std::to_string(shape.group_size) +
                                         " inputs; GPUs take multiples of " + std::to_string(scale_block_inputs) +
                                         ", or one group a row. Load it with device 'cpu'.");
  }
}

size_t quantized_bytes(const CanonicalShape& shape) {
  check_shape(shape);
  return PackedLayout(shape).total;
}

LinearWeight lay_out_quantized(Stream& stream, const CanonicalShape& shape, void* block) {
  check_shape(shape);
  const PackedLayout layout(shape);
  uint8_t* const data = static_cast<uint8_t*>(block);
  LinearWeight weight;
  weight.bits = shape.bits;
  weight.out = shape.out;
  weight.in = shape.in;
  weight.group_size = shape.group_size;
  weight.scale_type = shape.scale_type;
  weight.codes = data + layout.codes;
  weight.scales = data + layout.scales;
  if (shape.has_zero_points) weight.zeros = data + layout.zeros;
  if (shape.has_bias) weight.bias = reinterpret_cast<float*>(data + layout.bias);
  if (!shape.order.empty()) {
    auto* const order = reinterpret_cast<int32_t*>(data + layout.order);
    stream.copy_to_device(order, shape.order.data(), shape.order.size() * sizeof(int32_t));
    weight.order = order;
  }
  return weight;
}

LinearWeight lay_out_matrix(Stream& stream, int64_t out, int64_t in, DType element_type, const std::vector<float>& bias,
                            void* block) {
  LinearWeight weight;
  weight.out = out;
  weight.in = in;
  weight.element_type = element_type;
  weight.elements = static_cast<uint16_t*>(block);
  const MatrixLayout layout(out, in, !bias.empty());
  weight.stride = layout.stride;
  if (!bias.empty()) {
    weight.bias = reinterpret_cast<float*>(static_cast<uint8_t*>(block) + layout.bias);
    stream.copy_to_device(weight.bias, bias.data(), bias.size() * sizeof(float));
  }
  return weight;
}

static void check_slab(const LinearWeight& weight, int64_t first, int64_t count) {
  if (first < 0 || count <= 0 || first % strip_outputs != 0 || first + count > weight.out ||
      (count % strip_outputs != 0 && first + count != weight.out)) {
    throw Error("INTERNAL", "A slab of rows [" + std::to_string(first) + ", " + std::to_string(first + count) +
                                ") does not fit a weight of " + std::to_string(weight.out) + " rows in strips of " +
                                std::to_string(strip_outputs) + ".");
  }
}

void fill_quantized(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab) {
  check_slab(weight, slab.first, slab.count);
  pack_slab(stream, weight, slab);
}

void fill_matrix(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, DType type,
                 const void* rows) {
  check_slab(weight, first, count);
  convert_rows(stream, weight, first, count, type, rows);
}

// --- Running.

using gpu::counter_bytes, gpu::gathered_offset, gpu::gathered_stride, gpu::partial_bytes;

static bool needs_gather(const LinearWeight& weight) { return gpu::needs_gather(weight.order != nullptr, weight.in); }

static_assert(matrix_library_bytes <= partial_bytes);
void* library_workspace(const LinearWorkspace& workspace) {
  return static_cast<uint8_t*>(workspace.data) + counter_bytes;
}

// Rows per launch: keeps offsets into x and unit numbers within 32 bits.
static constexpr int64_t max_rows = 8192;

template <class Element>
constexpr DType type_of = DType::f32;
template <>
constexpr DType type_of<half> = DType::f16;
template <>
constexpr DType type_of<bfloat16> = DType::bf16;

// Weights of one launch differ only in their outputs.
static bool same_kind(const LinearWeight& a, const LinearWeight& b) {
  return a.bits == b.bits && a.group_size == b.group_size && a.scale_type == b.scale_type &&
         (a.zeros == nullptr) == (b.zeros == nullptr) && a.order == b.order && a.stride == b.stride;
}

template <class Element>
static void check_call(const LinearCall& call, const Matrix<const Element>& x) {
  const LinearWeight& weight = *call.weight;
  const char* objection = nullptr;
  const size_t row_bytes =
      weight.bits == 16 ? weight.stride * sizeof(uint16_t) : round_up(weight.in, padded_inputs) * weight.bits / 8;
  if (weight.in != x.columns) objection = "another number of inputs than x";
  if (weight.bits == 16 && weight.element_type != type_of<Element>) objection = "another type than x";
  if (call.type != DType::f32 && call.type != type_of<Element>) objection = "an output of a type that is not x's";
  if (call.stride < weight.out) objection = "output rows that overlap";
  if (row_bytes * round_up(weight.out, strip_outputs) >> 32 != 0)
    objection = "4 GiB of weights or more; give it in two";
  if (objection == nullptr) return;
  throw Error("INTERNAL", "A linear of " + std::to_string(weight.out) + " x " + std::to_string(weight.in) + " with " +
                              std::to_string(weight.bits) + " bits has " + objection + " (" + std::to_string(x.rows) +
                              " x " + std::to_string(x.columns) + ").");
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
  if (plan.shape.bulk) {
    if (weight.bits == 8) {
      weight.zeros == nullptr ? launch_bulk_gemm<Element, 8, false>(stream, shape, arguments)
                              : launch_bulk_gemm<Element, 8, true>(stream, shape, arguments);
    } else {
      weight.zeros == nullptr ? launch_bulk_gemm<Element, 4, false>(stream, shape, arguments)
                              : launch_bulk_gemm<Element, 4, true>(stream, shape, arguments);
    }
  } else if (weight.bits == 16) {
    launch_gemm<Element, 16, false>(stream, shape, arguments);
  } else if (weight.bits == 8) {
    weight.zeros == nullptr ? launch_gemm<Element, 8, false>(stream, shape, arguments)
                            : launch_gemm<Element, 8, true>(stream, shape, arguments);
  } else {
    weight.zeros == nullptr ? launch_gemm<Element, 4, false>(stream, shape, arguments)
                            : launch_gemm<Element, 4, true>(stream, shape, arguments);
  }
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
void planned_linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                    const LinearWorkspace& workspace, const GemmPlan& plan) {
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
    arguments.scale_shift = arguments.scale_bytes == 4 ? 4 : 3;
    const int64_t group_size = packed_group_size(weight.group_size, weight.in);
    arguments.groups = static_cast<int32_t>((weight.in + group_size - 1) / group_size);
    arguments.group_shift =
        arguments.groups == 1 ? 31 : std::countr_zero(static_cast<uint64_t>(group_size / scale_block_inputs));
    arguments.stage_groups = std::max(plan.shape.inputs / scale_block_inputs >> arguments.group_shift, 1);
  }
  uint8_t* const scratch = static_cast<uint8_t*>(workspace.data);
  arguments.counters = reinterpret_cast<int32_t*>(scratch);
  arguments.partials = reinterpret_cast<float*>(scratch + counter_bytes);
  if (plan.units * plan.blocks >> 32 != 0) {
    throw Error("INTERNAL", "A linear of " + std::to_string(x.rows) + " rows with " + std::to_string(plan.units) +
                                " units of work for " + std::to_string(plan.blocks) + " blocks is beyond 2^32.");
  }
  launch_kind<Element>(stream, plan, arguments, weight);
}

template <class Element>
static bool reads_in_place(const LinearWeight& weight, const Matrix<const Element>& x) {
  return !needs_gather(weight) && x.stride % 8 == 0 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

template <class Element>
void linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
            const LinearWorkspace& workspace) {
  if (x.rows == 0) return;
  const size_t bytes = workspace.bytes - workspace.panel_bytes;
  if (bytes < gathered_offset) {
    throw Error("INTERNAL", "The workspace of linears has " + std::to_string(bytes) + " bytes besides its panel of " +
                                std::to_string(workspace.panel_bytes) + "; it needs " +
                                std::to_string(gathered_offset) + ".");
  }
  const GemmMachine untuned = machine_of(stream.device());
  const GemmMachine& machine = workspace.machine == nullptr ? untuned : *workspace.machine;
  for (int i = 0; i < count; ++i) check_call(calls[i], x);

  std::vector<LinearCall> rest(calls, calls + count);
  while (!rest.empty()) {
    const LinearWeight& weight = *rest[0].weight;
    LinearCall together[GemmArguments::max_targets];
    int64_t outputs[GemmArguments::max_targets];
    int taken = 0;
    std::erase_if(rest, [&](const LinearCall& call) {
      if (taken == GemmArguments::max_targets || !same_kind(weight, *call.weight)) return false;
      together[taken++] = call;
      return true;
    });
    Matrix<const Element> inputs = x;
    if (!reads_in_place(weight, x)) {
      const int64_t stride = gathered_stride(x.columns);
      const size_t wanted = gathered_offset + x.rows * stride * sizeof(Element);
      if (bytes < wanted) {
        throw Error("INTERNAL", "The workspace of linears has " + std::to_string(bytes) + " bytes; gathering " +
                                    std::to_string(x.rows) + " x " + std::to_string(x.columns) + " inputs needs " +
                                    std::to_string(wanted) + ".");
      }
      auto* const gathered = reinterpret_cast<Element*>(static_cast<uint8_t*>(workspace.data) + gathered_offset);
      gather_columns<Element>(stream, x, weight.order, {gathered, x.rows, stride, stride});
      inputs = {gathered, x.rows, stride, stride};
    }
    for (int64_t first = 0; first < x.rows; first += max_rows) {
      const Matrix<const Element> part{inputs.data + first * inputs.stride, std::min(max_rows, x.rows - first),
                                       inputs.columns, inputs.stride};
      const GemmProblem problem = problem_of(together, taken, part.rows, outputs);
      const GemmPlan plan = plan_gemm(machine, problem);
      if (by_panels(machine, problem, plan, workspace.library != nullptr, workspace.panel_bytes)) {
        linear_by_panels<Element>(stream, together, taken, part, workspace, machine);
      } else {
        planned_linear<Element>(stream, together, taken, part, workspace, plan);
      }
      for (int i = 0; i < taken; ++i) {
        together[i].out =
            static_cast<uint8_t*>(together[i].out) + max_rows * together[i].stride * byte_size(together[i].type);
      }
    }
  }
}

template void linear<half>(Stream&, const LinearCall*, int, const Matrix<const half>&, const LinearWorkspace&);
template void linear<bfloat16>(Stream&, const LinearCall*, int, const Matrix<const bfloat16>&, const LinearWorkspace&);

template void planned_linear<half>(Stream&, const LinearCall*, int, const Matrix<const half>&, const LinearWorkspace&,
                                   const GemmPlan&);
template void planned_linear<bfloat16>(Stream&, const LinearCall*, int, const Matrix<const bfloat16>&,
                                       const LinearWorkspace&, const GemmPlan&);

}  // namespace billfish::BILLFISH_TARGET
