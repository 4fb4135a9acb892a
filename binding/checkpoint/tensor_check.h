// What TypeScript says about a tensor is checked again here before a byte of it is read: these structures decide which
// memory is accessed.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "checkpoint/mapped_file.h"
#include "checkpoint/weight_spec.h"

namespace billfish {

// Throws INVALID_CHECKPOINT.
[[noreturn]] void refuse(const std::string& message);

// "[4096, 512]"
std::string shape_text(const std::vector<int64_t>& shape);

// "Tensor 'model.norm.weight' of /models/a/model.safetensors", for any reference, however wrong.
std::string tensor_text(const TensorRef& tensor, const MappedFiles& files);

// A layer's dimensions: positive, and small enough for 32-bit indices.
void check_dimension(int64_t value, const std::string& name, const char* what);

// Throws unless the tensor has one of the types and exactly this shape, its size matches both, and it is within its
// file.
void check_tensor(const TensorRef& tensor, const MappedFiles& files, std::initializer_list<DType> types,
                  const std::vector<int64_t>& shape);

// The bytes of a tensor that check_tensor has accepted; throws if the file has been truncated since.
const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files);
// Only `bytes` bytes of it from byte `offset` on.
const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files, uint64_t offset, uint64_t bytes);

// Tensors may be unaligned, so numbers are read with memcpy, which compilers turn into one load.
template <class Number>
Number load(const uint8_t* bytes) {
  Number value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

// Number i of an array of f16, bf16, f32 or the types of scales in bytes.
inline float number_at(DType type, const uint8_t* values, int64_t i) {
  if (type == DType::f16) return f16_to_float(load<uint16_t>(values + 2 * i));
  if (type == DType::bf16) return bf16_to_float(load<uint16_t>(values + 2 * i));
  if (type == DType::f8_e4m3) return is_e4m3_nan(values[i]) ? NAN : e4m3_to_float(values[i]);
  if (type == DType::f8_e8m0) return e8m0_to_float(values[i]);
  return load<float>(values + 4 * i);
}

}  // namespace billfish
