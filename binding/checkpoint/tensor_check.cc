#include "checkpoint/tensor_check.h"

#include <algorithm>
#include <limits>

#include "engine/error.h"

namespace billfish {
namespace {

const char* type_name(DType type) {
  switch (type) {
    case DType::f32:
      return "F32";
    case DType::f16:
      return "F16";
    case DType::bf16:
      return "BF16";
    case DType::i32:
      return "I32";
    case DType::i64:
      return "I64";
    case DType::u8:
      return "U8";
    case DType::i8:
      return "I8";
    case DType::f8_e4m3:
      return "F8_E4M3";
    case DType::f8_e8m0:
      return "F8_E8M0";
  }
  return "unknown";
}

// Bytes of a tensor of that type and shape; false if they exceed 64 bits.
bool size_of(DType type, const std::vector<int64_t>& shape, uint64_t& bytes) {
  bytes = byte_size(type);
  for (const int64_t dimension : shape) {
    if (dimension < 0) return false;
    const uint64_t factor = static_cast<uint64_t>(dimension);
    if (factor != 0 && bytes > std::numeric_limits<uint64_t>::max() / factor) return false;
    bytes *= factor;
  }
  return true;
}

bool is_mapped(const TensorRef& tensor, const MappedFiles& files) {
  return tensor.file >= 0 && static_cast<size_t>(tensor.file) < files.size() && files[tensor.file] != nullptr;
}

}  // namespace

void refuse(const std::string& message) { throw Error("INVALID_CHECKPOINT", message); }

std::string shape_text(const std::vector<int64_t>& shape) {
  std::string text = "[";
  for (const int64_t dimension : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(dimension);
  return text + "]";
}

std::string tensor_text(const TensorRef& tensor, const MappedFiles& files) {
  const std::string file = is_mapped(tensor, files) ? files[tensor.file]->path() : "an unknown file";
  return "Tensor '" + tensor.name + "' of " + file;
}

void check_dimension(int64_t value, const std::string& name, const char* what) {
  if (value >= 1 && value <= std::numeric_limits<int32_t>::max()) return;
  refuse("Layer '" + name + "' has " + std::to_string(value) + " " + what + "; between 1 and 2147483647 are possible");
}

void check_tensor(const TensorRef& tensor, const MappedFiles& files, std::initializer_list<DType> types,
                  const std::vector<int64_t>& shape) {
  const std::string text = tensor_text(tensor, files);
  if (!is_mapped(tensor, files)) {
    refuse(text + " lies in file number " + std::to_string(tensor.file) + " of " + std::to_string(files.size()));
  }
  if (std::find(types.begin(), types.end(), tensor.dtype) == types.end()) {
    std::string wanted;
    for (const DType type : types) wanted += (wanted.empty() ? "" : " or ") + std::string(type_name(type));
    refuse(text + " has type " + type_name(tensor.dtype) + "; " + wanted + " is needed there");
  }
  if (tensor.shape != shape) {
    refuse(text + " has shape " + shape_text(tensor.shape) + " where " + shape_text(shape) + " is needed");
  }
  uint64_t bytes = 0;
  if (!size_of(tensor.dtype, shape, bytes) || bytes != tensor.bytes) {
    refuse(text + " of shape " + shape_text(shape) + " and type " + type_name(tensor.dtype) + " claims " +
           std::to_string(tensor.bytes) + " bytes");
  }
  tensor_bytes(tensor, files);
}

const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files) {
  return tensor_bytes(tensor, files, 0, tensor.bytes);
}

const uint8_t* tensor_bytes(const TensorRef& tensor, const MappedFiles& files, uint64_t offset, uint64_t bytes) {
  return files[tensor.file]->at(tensor.offset + offset, bytes, "Tensor '" + tensor.name + "'");
}

}  // namespace billfish
