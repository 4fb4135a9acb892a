// Rows of 16-bit elements in shared memory, as ldmatrix reads them. They are padded by 16 bytes: the row length is then
// an odd number of 16-byte units, and the eight rows of an ldmatrix fall into different banks.
#pragma once
#include <cstdint>

#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// `rows` rows of up to `columns` elements.
template <class Element, int columns>
struct SharedRows {
  static constexpr int stride = columns + 8;
  static constexpr int chunks = columns / 8;  // of 16 bytes
  static constexpr uint32_t bytes(int rows) { return static_cast<uint32_t>(rows * stride * int{sizeof(Element)}); }
  Shared<Element> data;

  DEVICE Shared<Element> at(int row, int column) const { return data + (row * stride + column); }
};

}  // namespace billfish::BILLFISH_TARGET
