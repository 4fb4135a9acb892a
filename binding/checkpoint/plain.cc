// Weights in the checkpoint's own floating-point type: matrices as they are, vectors as fp32.
#include <cmath>
#include <cstring>

#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"

namespace billfish {

void check_matrix(const MatrixSpec& spec, const MappedFiles& files) {
  check_dimension(spec.out, spec.name, "rows");
  check_dimension(spec.in, spec.name, "columns");
  check_tensor(spec.weight, files, {DType::f16, DType::bf16, DType::f32}, {spec.out, spec.in});
  if (spec.bias) check_tensor(*spec.bias, files, {DType::f16, DType::bf16, DType::f32}, {spec.out});
}

void read_matrix_rows(const MatrixSpec& spec, const MappedFiles& files, int64_t first, int64_t count, void* out) {
  if (first < 0 || count < 0 || first > spec.out - count) {
    throw Error("INTERNAL", std::to_string(count) + " rows from row " + std::to_string(first) +
                                " on were asked for of '" + spec.name + "', which has " + std::to_string(spec.out));
  }
  const uint64_t row_bytes = static_cast<uint64_t>(spec.in) * byte_size(spec.weight.dtype);
  std::memcpy(out, tensor_bytes(spec.weight, files, first * row_bytes, count * row_bytes), count * row_bytes);
}

std::vector<float> read_vector(const TensorRef& tensor, int64_t length, const MappedFiles& files) {
  check_dimension(length, tensor.name, "elements");
  check_tensor(tensor, files, {DType::f16, DType::bf16, DType::f32}, {length});
  const uint8_t* bytes = tensor_bytes(tensor, files);
  std::vector<float> values(length);
  for (int64_t i = 0; i < length; ++i) {
    switch (tensor.dtype) {
      case DType::f16:
        values[i] = f16_to_float(load<uint16_t>(bytes + 2 * i));
        break;
      case DType::bf16:
        values[i] = bf16_to_float(load<uint16_t>(bytes + 2 * i));
        break;
      default:
        values[i] = load<float>(bytes + 4 * i);
    }
    if (!std::isfinite(values[i])) {
      refuse(tensor_text(tensor, files) + " holds " + (std::isnan(values[i]) ? "NaN" : "infinity") + " at index " +
             std::to_string(i) + "; download the checkpoint again");
    }
  }
  return values;
}

}  // namespace billfish
