#include "panels/panels.h"

#include <algorithm>
#include <type_traits>

#include "gemm/planned_linear.h"
#include "panels/dequantize_rows.h"
#include "panels/panel_choice.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/launch.h"
#include "runtime/libraries.h"

namespace billfish::BILLFISH_TARGET {

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
    panel.element_type = std::is_same_v<Element, half> ? DType::f16 : DType::bf16;
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

}  // namespace billfish::BILLFISH_TARGET
