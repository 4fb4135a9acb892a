// What TypeScript says about a tensor is checked again here before a byte of it is read: these structures decide which
// memory is accessed.
#pragma once
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

// "Tensor 'model.norm.weight' of /models/a/model.safetensors", whatever is wrong with the reference.
std::string tensor_text(const TensorRef& tensor, const MappedFiles& files);

// A layer's dimensions: positive, and small enough that an index of 32 bits reaches everything in it.
void check_dimension(int64_t value, const std::string& name, const char* what);

// Throws unless the tensor has one of the types and exactly this shape, its bytes are those of type and shape, and they
// lie in its file.
void check_tensor(const TensorRef& tensor, const MappedFiles& files, std::initializer_list<DType> types,
                  const std::vector<int64_t>& shape);

// The bytes of a tensor that check_tensor has accepted; throws when the file has become shorter since.
const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files);
// Only `bytes` bytes of it from byte `offset` on.
const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files, uint64_t offset, uint64_t bytes);

// Tensors may begin at any byte, so numbers are read by copy; compilers make one load of it.
template <class Number>
Number load(const uint8_t* bytes) {
  Number value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

}  // namespace billfish
