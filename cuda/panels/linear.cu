#include "panels/linear.h"

#include <algorithm>
#include <string>
#include <vector>

#include "engine/error.h"
#include "gemm/launch.h"
#include "gemm/layout.h"
#include "layer/matrix_of.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/launch.h"
#include "runtime/libraries.h"

namespace billfish::BILLFISH_TARGET {

// --- Panels.

namespace {

// The bias in every row of y, for a product that is added to it. Blocks: x along a row, y over rows.
template <class T>
struct RepeatBias {
  static constexpr int max_threads = 256;
  Global<const float> bias;
  Global<T> y;
  int64_t stride;
  int32_t rows, columns;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();
    const auto column = static_cast<int32_t>(block_index().x * block_size().x + thread_index().x);
    if (column >= columns) return;
    const float value = load_readonly<float>(bias + column);
    for (int64_t row = block_index().y; row < rows; row += grid_size().y) {
      y[row * stride + column] = from_float<T>(value);
    }
  }
};

template <class T>
void repeat_bias(Stream& stream, const LinearCall& call, int64_t rows) {
  const auto columns = static_cast<uint32_t>(call.weight->out);
  launch(stream,
         {.grid = {(columns + 255) / 256, static_cast<uint32_t>(std::min<int64_t>(rows, 64))},
          .block = {256},
          .programmatic = true},
         RepeatBias<T>{call.weight->bias, static_cast<T*>(call.out), call.stride, static_cast<int32_t>(rows),
                       static_cast<int32_t>(columns)});
}

template <class Element>
void multiply(Stream& stream, const LinearCall& call, const Matrix<const Element>& x, const LinearWorkspace& workspace,
              const GemmMachine& machine) {
  const LinearWeight& weight = *call.weight;
  if (workspace.library == nullptr) {
    int64_t outputs;
    const GemmPlan plan = plan_gemm(machine, problem_of(&call, 1, x.rows, &outputs));
    planned_linear<Element>(stream, &call, 1, x, workspace, plan);
    return;
  }
  if (weight.bias != nullptr) {
    call.type == DType::f32 ? repeat_bias<float>(stream, call, x.rows) : repeat_bias<Element>(stream, call, x.rows);
  }
  workspace.library->multiply({weight.element_type, call.type, x.rows, weight.out, weight.in, x.data, weight.elements,
                               call.out, x.stride, weight.stride, call.stride, weight.bias != nullptr});
}

}  // namespace

template <class Element>
void linear_by_panels(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
                      const LinearWorkspace& workspace, const GemmMachine& machine) {
  for (int i = 0; i < count; ++i) {
    const LinearWeight& weight = *calls[i].weight;
    if (weight.bits == 16) {
      multiply<Element>(stream, calls[i], x, workspace, machine);
      continue;
    }
    const PanelShape shape = panels_of(weight.out, weight.in, workspace.panel_bytes);
    auto* const elements = static_cast<uint8_t*>(workspace.data) + workspace.bytes - workspace.panel_bytes;
    LinearWeight panel;
    panel.in = weight.in;
    panel.element_type = dtype_of<Element>;
    panel.elements = reinterpret_cast<uint16_t*>(elements);
    panel.stride = shape.stride;
    for (int64_t first = 0; first < weight.out; first += shape.rows) {
      panel.out = std::min(shape.rows, weight.out - first);
      if (weight.bias != nullptr) panel.bias = weight.bias + first;
      dequantize_rows<Element>(stream, weight, first, panel.out, reinterpret_cast<Element*>(elements), shape.stride);
      auto* const out = static_cast<uint8_t*>(calls[i].out) + first * static_cast<int64_t>(byte_size(calls[i].type));
      multiply<Element>(stream, {&panel, out, calls[i].stride, calls[i].type}, x, workspace, machine);
    }
  }
}

template void linear_by_panels<half>(Stream&, const LinearCall*, int, const Matrix<const half>&, const LinearWorkspace&,
                                     const GemmMachine&);
template void linear_by_panels<bfloat16>(Stream&, const LinearCall*, int, const Matrix<const bfloat16>&,
                                         const LinearWorkspace&, const GemmMachine&);

// --- Either path.

namespace {

// Permutes columns of activations into the order of a weight. One thread per element; blocks: x along a row, y over
// rows. Reads are scattered over a row of a few kilobytes, which stays in cache.
template <class Element>
struct GatherColumns {
  static constexpr int max_threads = 256;
  Global<const Element> x;
  Global<const int32_t> order;
  Global<Element> out;
  int64_t x_stride, out_stride;
  int32_t rows, x_columns, out_columns;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();
    const auto column = static_cast<int32_t>(block_index().x * block_size().x + thread_index().x);
    if (column >= out_columns) return;
    const bool inside = column < x_columns;
    int32_t from = column;
    if (inside && order) from = order[column];
    for (int64_t row = block_index().y; row < rows; row += grid_size().y) {
      Element value = {};
      if (inside) value = x[row * x_stride + from];
      out[row * out_stride + column] = value;
    }
  }
};

// out[r][k] = x[r][order[k]] (or x[r][k] where order is null) for k < x.columns, and zero up to out.columns.
template <class Element>
void gather_columns(Stream& stream, const Matrix<const Element>& x, const int32_t* order, const Matrix<Element>& out) {
  constexpr uint32_t threads = GatherColumns<Element>::max_threads, max_rows = 65535;
  const auto columns = static_cast<uint32_t>((out.columns + threads - 1) / threads);
  const auto rows = static_cast<uint32_t>(x.rows < max_rows ? x.rows : max_rows);
  launch(stream, {.grid = {columns, rows}, .block = {threads}, .programmatic = true},
         GatherColumns<Element>{x.data, order, out.data, x.stride, out.stride, static_cast<int32_t>(x.rows),
                                static_cast<int32_t>(x.columns), static_cast<int32_t>(out.columns)});
}

}  // namespace

using gpu::gathered_offset, gpu::gathered_stride;

static bool needs_gather(const LinearWeight& weight) { return gpu::needs_gather(weight.order != nullptr, weight.in); }

// Rows per launch: keeps offsets into x and unit numbers within 32 bits.
static constexpr int64_t max_rows = 8192;

// Weights of one launch differ only in their outputs.
static bool same_kind(const LinearWeight& a, const LinearWeight& b) {
  return a.bits == b.bits && a.group_size == b.group_size && a.scale_type == b.scale_type && a.kind() == b.kind() &&
         a.order == b.order && a.stride == b.stride;
}

template <class Element>
static void check_call(const LinearCall& call, const Matrix<const Element>& x) {
  const LinearWeight& weight = *call.weight;
  const char* objection = nullptr;
  const size_t row_bytes =
      weight.bits == 16 ? weight.stride * sizeof(uint16_t) : round_up(weight.in, padded_inputs) * weight.bits / 8;
  if (weight.in != x.columns) objection = "another number of inputs than x";
  if (weight.bits == 16 && weight.element_type != dtype_of<Element>) objection = "another type than x";
  if (call.type != DType::f32 && call.type != dtype_of<Element>) objection = "an output of a type that is not x's";
  if (call.stride < weight.out) objection = "output rows that overlap";
  if (row_bytes * round_up(weight.out, strip_outputs) >> 32 != 0)
    objection = "4 GiB of weights or more; give it in two";
  if (objection == nullptr) return;
  throw Error("INTERNAL", "A linear of " + std::to_string(weight.out) + " x " + std::to_string(weight.in) + " with " +
                              std::to_string(weight.bits) + " bits has " + objection + " (" + std::to_string(x.rows) +
                              " x " + std::to_string(x.columns) + ").");
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

}  // namespace billfish::BILLFISH_TARGET
