// Matrices in device memory, as launch functions on the host take them. Kernels take Global<T> and numbers.
#pragma once
#include <cstdint>
#include <type_traits>

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

}  // namespace billfish::BILLFISH_TARGET
