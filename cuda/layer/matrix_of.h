// From an operand of a program to the matrix that launch functions take. Not in tensor.h, which host compilers read,
// too: they do not know CUDA's 16-bit numbers.
#pragma once
#include "engine/error.h"
#include "engine/operands.h"
#include "layer/tensor.h"
#include "primitives/numbers.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

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
