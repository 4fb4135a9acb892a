#include "checkpoint/readers.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "checkpoint/channels.h"
#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

void check_numbers(const QuantizedSpec& spec) {
  check_dimension(spec.out, spec.name, "outputs");
  check_dimension(spec.in, spec.name, "inputs");
  const auto number = [&](const char* what, int64_t value, const std::string& wanted) {
    refuse("Layer '" + spec.name + "' has " + what + " " + std::to_string(value) + "; " + wanted + " is supported");
  };
  if (spec.bits != 4 && spec.bits != 8) number("bits", spec.bits, "4 or 8");
  if (spec.group_size < 1 || spec.group_size > spec.in)
    number("group size", spec.group_size, "1 to " + std::to_string(spec.in));
  const bool shares_scales = spec.format == Format::fp8 || spec.format == Format::compressed_tensors;
  if (spec.scale_rows < 1 || (spec.scale_rows > 1 && !shares_scales))
    number("outputs that share scales,", spec.scale_rows, shares_scales ? "1 or more" : "1");
  if (spec.zero_offset != 0 && spec.zero_offset != 1) number("zero offset", spec.zero_offset, "0 or 1");
  if (!spec.symmetric && !spec.zeros)
    refuse("Layer '" + spec.name + "' is asymmetric but has no tensor of zero points");
}

void release(const TensorRef& tensor, const MappedFiles& files) {
  files[tensor.file]->release(tensor.offset, tensor.bytes);
}

std::unique_ptr<CanonicalSource> open_stored(const QuantizedSpec& spec, const MappedFiles& files) {
  check_numbers(spec);  // before anything is computed from them
  std::unique_ptr<CanonicalSource> source;
  switch (spec.format) {
    case Format::gptq:
      source = open_gptq(spec, files);
      break;
    case Format::awq:
      source = open_awq(spec, files);
      break;
    case Format::awq_gemv:
      source = open_awq_gemv(spec, files);
      break;
    case Format::compressed_tensors:
      source = open_compressed_tensors(spec, files);
      break;
    case Format::fp8:
      source = open_fp8(spec, files);
      break;
    case Format::fp4:
      source = open_fp4(spec, files);
      break;
  }
  // Formats stored input by input are read in narrow columns, which the kernel's own read-ahead does not recognize.
  files[spec.codes.file]->prefetch(spec.codes.offset, spec.codes.bytes);
  return source;
}

// The whole layer that the weight is a part of.
QuantizedSpec stored_layer(const QuantizedSpec& spec) {
  QuantizedSpec stored = spec;
  stored.out = spec.part->stored_out;
  stored.in = spec.part->stored_in;
  stored.group_size = spec.part->stored_group_size;
  stored.part.reset();
  return stored;
}

// All elements of a tensor in fp32.
std::vector<float> read_elements(const TensorRef& tensor, const std::vector<int64_t>& shape, const MappedFiles& files) {
  int64_t length = 1;
  for (const int64_t size : shape) {
    check_dimension(size, tensor.name, "elements");
    length *= size;
    check_dimension(length, tensor.name, "elements");
  }
  check_tensor(tensor, files, {DType::f16, DType::bf16, DType::f32}, shape);
  const uint8_t* bytes = tensor_bytes(tensor, files);
  std::vector<float> values(length);
  for (int64_t i = 0; i < length; ++i) {
    values[i] = number_at(tensor.dtype, bytes, i);
    if (!std::isfinite(values[i])) {
      refuse(tensor_text(tensor, files) + " holds " + (std::isnan(values[i]) ? "NaN" : "infinity") + " at index " +
             std::to_string(i) + "; download the checkpoint again");
    }
  }
  return values;
}

}  // namespace

std::unique_ptr<CanonicalSource> open_quantized(const QuantizedSpec& spec, const MappedFiles& files) {
  if (!spec.part) return open_stored(spec, files);
  check_numbers(spec);
  return part_of(open_stored(stored_layer(spec), files), spec, files);
}

std::vector<float> read_vector(const TensorRef& tensor, int64_t length, const MappedFiles& files) {
  return read_elements(tensor, {length}, files);
}

std::vector<float> read_vector(const VectorSpec& spec, const MappedFiles& files) {
  std::vector<float> values = read_elements(spec.weight, spec.weight.shape, files);
  if (!spec.elements.empty()) {
    const std::vector<float> stored = std::exchange(values, {});
    values.assign(static_cast<size_t>(spec.length), -spec.offset);  // zeros, after all
    const Channels elements(spec.elements, static_cast<int64_t>(stored.size()), spec.length, spec.name, "elements");
    elements.for_each(
        0, spec.length,
        [&](int64_t at, int64_t from, int64_t count) { std::copy_n(&stored[from], count, &values[at]); },
        [](int64_t, int64_t) {});
  }
  if (static_cast<int64_t>(values.size()) != spec.length) {
    refuse(tensor_text(spec.weight, files) + " has " + std::to_string(values.size()) + " elements where " +
           std::to_string(spec.length) + " are needed");
  }
  if (spec.offset != 0) {
    for (float& value : values) value += spec.offset;
  }
  return values;
}

void release_source(const QuantizedSpec& spec, const MappedFiles& files) {
  release(spec.codes, files);
  release(spec.scales, files);
  if (spec.zeros) release(*spec.zeros, files);
}

void release_source(const MatrixSpec& spec, const MappedFiles& files) { release(spec.weight, files); }

}  // namespace billfish
