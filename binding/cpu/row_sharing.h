// How row-wise operators split their work for the pool.
#pragma once
#include <algorithm>
#include <cstdint>

namespace billfish::cpu {

// A region costs a microsecond or two, in which one core processes about ten thousand elements: fewer are not worth a
// second thread.
constexpr int64_t elements_per_piece = 8192;

inline int64_t rows_per_piece(int64_t elements_per_row) {
  return std::max<int64_t>(1, elements_per_piece / std::max<int64_t>(1, elements_per_row));
}

}  // namespace billfish::cpu
