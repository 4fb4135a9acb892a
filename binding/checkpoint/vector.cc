// Vectors as fp32, whatever type the checkpoint stores.
#include <cmath>

#include "checkpoint/readers.h"
#include "checkpoint/tensor_check.h"

namespace billfish {

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
