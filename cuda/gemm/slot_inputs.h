// Act-order of experts: the inputs of every slot in the order of its expert.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

struct SlotOrders {
  const int32_t* order;  // [experts][inputs]
  int32_t first, experts;
  int64_t inputs;
  int64_t slot_columns;  // of x, from a slot to the token's next; 0: they share their inputs
};

// out[slot][k] = x[slot][order[expert of the slot][k]]; rows of slots without an expert here stay as they are.
template <class Element>
void gather_slots(Stream& stream, const Matrix<const Element>& x, const Matrix<const float>& routing,
                  const SlotOrders& orders, Element* out);

}  // namespace billfish::BILLFISH_TARGET
