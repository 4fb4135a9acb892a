// Matrices in device memory, as launch functions on the host take them. Kernels take Global<T> and numbers.
#pragma once
#include <cstdint>
#include <type_traits>

#include "engine/error.h"
#include "engine/operands.h"
#include "primitives/numbers.h"
#include "runtime/device.h"

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

template <class T>
constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<half> = DType::f16;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bf16;

// The tensor as the type that it must have: programs that TypeScript traces have no others.
template <class T>
Matrix<T> matrix_of(const Tensor& tensor, const Device& device) {
  if (tensor.type != dtype_of<T>) {
    throw Error("INTERNAL", "An operator on " + device.name() + " was given a value of the wrong class.");
  }
  return {static_cast<T*>(tensor.data), tensor.rows, tensor.columns, tensor.stride};
}

}  // namespace billfish::BILLFISH_TARGET
