// What backends of this target know of each other, independent of the element type.
#pragma once
#include "backend/peer_channel.h"
#include "engine/backend.h"
#include "engine/error.h"
#include "layer/tensor.h"
#include "primitives/numbers.h"
#include "runtime/device.h"

namespace billfish::BILLFISH_TARGET {

class RankExchange;

class Peer : public Backend {
 public:
  virtual const Device& target_device() const = 0;
  virtual Stream& stream() = 0;
  virtual PeerChannel& peer_channel() = 0;  // fp32, contiguous
  virtual const RankExchange& exchange() const = 0;
};

template <class T>
constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<half> = DType::f16;
template <>
inline constexpr DType dtype_of<bfloat16> = DType::bf16;

// The tensor with its expected type; traced programs have no others.
template <class T>
Matrix<T> matrix_of(const Tensor& tensor, const Device& device) {
  if (tensor.type != dtype_of<T>) {
    throw Error("INTERNAL", "An operator on " + device.name() + " was given a value of the wrong class.");
  }
  return {static_cast<T*>(tensor.data), tensor.rows, tensor.columns, tensor.stride};
}

}  // namespace billfish::BILLFISH_TARGET
