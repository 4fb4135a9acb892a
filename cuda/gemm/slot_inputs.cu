#include "gemm/slot_inputs.h"

#include <algorithm>

#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

// One thread an input; blocks: x along the inputs, y over slots.
template <class Element>
struct GatherSlots {
  static constexpr int max_threads = 256;
  Global<const Element> x;
  Global<const float> routing;
  Global<const int32_t> order;
  Global<Element> out;
  int64_t x_stride, routing_stride, slot_columns;
  int32_t slots, per_token, first, experts, inputs;

  DEVICE void operator()() const {
    launch_next_grid();
    wait_for_previous_grid();
    const auto input = static_cast<int32_t>(block_index().x * block_size().x + thread_index().x);
    if (input >= inputs) return;
    for (int32_t slot = static_cast<int32_t>(block_index().y); slot < slots;
         slot += static_cast<int32_t>(grid_size().y)) {
      const int32_t token = slot / per_token, number = slot - token * per_token;
      const int32_t expert = static_cast<int32_t>(routing[token * routing_stride + number]) - first;
      if (expert < 0 || expert >= experts) continue;
      const int32_t from = order[int64_t{expert} * inputs + input];
      out[int64_t{slot} * inputs + input] = x[token * x_stride + number * slot_columns + from];
    }
  }
};

}  // namespace

template <class Element>
void gather_slots(Stream& stream, const Matrix<const Element>& x, const Matrix<const float>& routing,
                  const SlotOrders& orders, Element* out) {
  constexpr uint32_t threads = GatherSlots<Element>::max_threads;
  constexpr int64_t max_blocks = 65535;
  const int64_t per_token = routing.columns / 2, slots = x.rows * per_token;
  const auto columns = static_cast<uint32_t>((orders.inputs + threads - 1) / threads);
  const auto rows = static_cast<uint32_t>(std::min(slots, max_blocks));
  launch(stream, {.grid = {columns, rows}, .block = {threads}, .programmatic = true},
         GatherSlots<Element>{x.data, routing.data, orders.order, out, x.stride, routing.stride, orders.slot_columns,
                              static_cast<int32_t>(slots), static_cast<int32_t>(per_token), orders.first,
                              orders.experts, static_cast<int32_t>(orders.inputs)});
}

template void gather_slots<half>(Stream&, const Matrix<const half>&, const Matrix<const float>&, const SlotOrders&,
                                 half*);
template void gather_slots<bfloat16>(Stream&, const Matrix<const bfloat16>&, const Matrix<const float>&,
                                     const SlotOrders&, bfloat16*);

}  // namespace billfish::BILLFISH_TARGET
