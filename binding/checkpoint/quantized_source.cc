#include "checkpoint/quantized_source.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <sstream>

#include "checkpoint/channels.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"

namespace billfish {
namespace {

// compressed-tensors also stores the shape as a tensor.
void check_stored_shape(const QuantizedSpec& spec, const MappedFiles& files) {
  const TensorRef& tensor = *spec.stored_shape;
  check_tensor(tensor, files, {DType::i32, DType::i64}, {2});
  const uint8_t* bytes = tensor_bytes(tensor, files);
  const auto number = [&](int i) {
    return tensor.dtype == DType::i32 ? load<int32_t>(bytes + 4 * i) : load<int64_t>(bytes + 8 * i);
  };
  if (number(0) == spec.out && number(1) == spec.in) return;
  refuse(tensor_text(tensor, files) + " says that the layer's shape is " + shape_text({number(0), number(1)}) +
         ", but it is " + shape_text({spec.out, spec.in}));
}

// A global scale as one that multiplies.
float read_output_scale(const QuantizedSpec& spec, const MappedFiles& files) {
  const TensorRef& tensor = *spec.global_scale;
  check_tensor(tensor, files, {DType::f32, DType::f16, DType::bf16},
               tensor.shape.empty() ? tensor.shape : std::vector<int64_t>{1});
  const float stored = number_at(tensor.dtype, tensor_bytes(tensor, files), 0);
  const float scale = spec.global_scale_divides ? 1 / stored : stored;
  if (std::isfinite(scale) && std::isfinite(stored)) return scale;
  std::ostringstream number;
  number << stored;
  refuse(tensor_text(tensor, files) + " is " + number.str() +
         (spec.global_scale_divides ? ", which divides" : ", which multiplies") + " the scales of '" + spec.name +
         "'; the layer's results would be meaningless, take another quantization of this model");
}

// NaN and infinity have all exponent bits set; in bytes NaN alone, and those of e4m3 have all bits of the mantissa set
// too.
template <class Bits, Bits exponent>
bool all_finite(const Bits* values, int64_t count) {
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) finite &= (values[i] & exponent) != exponent;
  return finite;
}

bool all_finite(DType type, const void* values, int64_t count) {
  switch (type) {
    case DType::f16:
      return all_finite<uint16_t, 0x7c00u>(static_cast<const uint16_t*>(values), count);
    case DType::bf16:
      return all_finite<uint16_t, 0x7f80u>(static_cast<const uint16_t*>(values), count);
    case DType::f8_e4m3:
      return all_finite<uint8_t, 0x7fu>(static_cast<const uint8_t*>(values), count);
    case DType::f8_e8m0:
      return all_finite<uint8_t, 0xffu>(static_cast<const uint8_t*>(values), count);
    default:
      return all_finite<uint32_t, 0x7f800000u>(static_cast<const uint32_t*>(values), count);
  }
}

// [groups][out] -> [count][groups] for the columns [first, first + count).
template <class Bits>
void transpose_columns(const uint8_t* source, int64_t groups, int64_t out, int64_t first, int64_t count, Bits* target) {
  for (int64_t group = 0; group < groups; ++group) {
    const uint8_t* row = source + (group * out + first) * sizeof(Bits);
    for (int64_t i = 0; i < count; ++i) target[i * groups + group] = load<Bits>(row + i * sizeof(Bits));
  }
}

}  // namespace

QuantizedSource::QuantizedSource(const QuantizedSpec& spec, const MappedFiles& files,
                                 const std::vector<int64_t>& codes_shape, const std::vector<int64_t>& scales_shape,
                                 const std::vector<int64_t>& zeros_shape, DType codes_type, DType zeros_type)
    : spec_(spec), files_(files) {
  check_tensor(spec.codes, files, {codes_type}, codes_shape);
  if (spec.format == Format::fp4) {
    check_tensor(spec.scales, files, {DType::f8_e4m3, DType::f8_e8m0, DType::u8}, scales_shape);
  } else {
    check_tensor(spec.scales, files, {DType::f16, DType::bf16, DType::f32}, scales_shape);
  }
  if (!spec.symmetric) check_tensor(*spec.zeros, files, {zeros_type}, zeros_shape);
  if (spec.stored_shape) check_stored_shape(spec, files);
  if (spec.bias) bias_ = read_vector(*spec.bias, spec.out, files);

  shape_.name = spec.name;
  shape_.bits = spec.bits;
  shape_.codes = code_type(spec);
  shape_.out = spec.out;
  shape_.in = spec.in;
  shape_.group_size = spec.group_size;
  shape_.has_zero_points = !spec.symmetric;
  shape_.has_bias = spec.bias.has_value();
  shape_.scale_type = scale_type(spec.scales.dtype);
  shape_.has_output_scales = spec.global_scale.has_value();
  if (spec.global_scale) output_scale_ = read_output_scale(spec, files);
  shape_.has_group_index = spec.group_index.has_value();
  if (spec.group_index) shape_.order = read_order(*spec.group_index, spec.in, spec.group_size, files);
}

const uint8_t* QuantizedSource::code_bytes() const { return tensor_bytes(spec_.codes, files_); }

void QuantizedSource::read(int64_t first, int64_t count, CanonicalRows& rows) const {
  if (first < 0 || count < 0 || first > shape_.out - count) {
    throw Error("INTERNAL", std::to_string(count) + " rows from row " + std::to_string(first) +
                                " on were asked for of '" + shape_.name + "', which has " + std::to_string(shape_.out));
  }
  const int64_t groups = shape_.groups();
  rows.first = first;
  rows.count = count;
  rows.codes.resize(count * shape_.words_per_row());
  read_codes(first, count, rows.codes.data());
  read_scales(first, count, rows);
  rows.zeros.resize(shape_.has_zero_points ? count * groups : 0);
  if (shape_.has_zero_points) {
    read_zeros(first, count, tensor_bytes(*spec_.zeros, files_), rows.zeros.data());
    if (spec_.zero_offset != 0) {
      const uint8_t mask = static_cast<uint8_t>((1u << spec_.bits) - 1);
      for (uint8_t& zero : rows.zeros) zero = (zero + 1) & mask;
    }
  }
  rows.output_scales.assign(shape_.has_output_scales ? count : 0, output_scale_);
  rows.bias.assign(bias_.begin() + (bias_.empty() ? 0 : first), bias_.begin() + (bias_.empty() ? 0 : first + count));
}

void QuantizedSource::read_scales(int64_t first, int64_t count, CanonicalRows& rows) const {
  const int64_t groups = shape_.groups();
  const DType type = shape_.scale_type;
  const int64_t size = static_cast<int64_t>(byte_size(type));
  rows.scales.resize(count * groups * size);
  uint8_t* target = rows.scales.data();
  const uint8_t* source = tensor_bytes(spec_.scales, files_);
  if (!scales_by_group()) {
    const int64_t columns = spec_.scales.shape[1];
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = (first + i) / spec_.scale_rows;
      std::memcpy(target + i * groups * size, source + row * columns * size, groups * size);
    }
  } else if (size == 2) {
    transpose_columns(source, groups, shape_.out, first, count, reinterpret_cast<uint16_t*>(target));
  } else {
    transpose_columns(source, groups, shape_.out, first, count, reinterpret_cast<uint32_t*>(target));
  }
  if (all_finite(type, target, count * groups)) return;
  for (int64_t i = 0; i < count * groups; ++i) {
    const float scale = number_at(type, target, i);
    if (!std::isfinite(scale)) refuse_scale(first + i / groups, i % groups, scale);
  }
}

void QuantizedSource::refuse_scale(int64_t row, int64_t group, float value) const {
  refuse(tensor_text(spec_.scales, files_) + " has the scale " + (std::isnan(value) ? "NaN" : "infinity") +
         " for output " + std::to_string(row) + ", group " + std::to_string(group) +
         "; the layer's results would be meaningless, take another quantization of this model");
}

}  // namespace billfish
