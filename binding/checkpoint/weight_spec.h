// Where a weight lies in the mapped files and how it is stored: the native twin of src/native/weights.ts.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/dtype.h"

namespace billfish {

struct TensorRef {
  std::string name;
  int file = 0;
  DType dtype = DType::f16;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

// A matrix [out, in] in the checkpoint's floating-point type, with an optional bias.
struct MatrixSpec {
  std::string name;
  int64_t out = 0, in = 0;
  TensorRef weight;
  std::optional<TensorRef> bias;
};

// A vector that is kept as fp32.
struct VectorSpec {
  std::string name;
  int64_t length = 0;
  TensorRef weight;
};

enum class Format { gptq, awq, compressed_tensors };

struct QuantizedSpec {
  std::string name;
  Format format = Format::gptq;
  int bits = 4;
  int64_t out = 0, in = 0;
  int64_t group_size = 0;  // == in when channelwise
  bool symmetric = true;   // zero is 2^(bits-1), stored zeros are ignored
  int zero_offset = 0;     // added to stored zeros modulo 2^bits: 1 for GPTQ v1
  TensorRef codes, scales;
  std::optional<TensorRef> zeros, group_index, bias;
  std::optional<TensorRef> stored_shape;  // compressed-tensors' weight_shape: [out, in] as i32 or i64 numbers
};

using WeightSpec = std::variant<VectorSpec, MatrixSpec, QuantizedSpec>;

}  // namespace billfish
