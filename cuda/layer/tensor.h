// Matrices in device memory, as launch functions on the host take them, and their conversion. Kernels take Global<T>
// and numbers.
#pragma once
#include <cstdint>
#include <type_traits>

#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Row-major: element (r, c) is data[r * stride + c]. Rows aligned to 16 bytes are accessed 16 bytes at a time; others
// work, more slowly.
template <class T>
struct Matrix {
  T* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;

  template <class Const, class = std::enable_if_t<std::is_same_v<Const, const T> && !std::is_const_v<T>>>
  operator Matrix<Const>() const {
    return {data, rows, columns, stride};
  }
};

// out = x with another element type (float, half or bfloat16) or stride; the nearest representable number, and the
// largest finite one for a finite number beyond it (infinity and NaN stay what they are).
template <class From, class To>
void convert(Stream& stream, const Matrix<const From>& x, const Matrix<To>& out);

}  // namespace billfish::BILLFISH_TARGET
