#include "checkpoint/readers.h"

#include <cstring>

#include "checkpoint/channels.h"
#include "checkpoint/tensor_check.h"
#include "engine/error.h"

namespace billfish {
namespace {

const Part whole;

const Part& part_of(const MatrixSpec& spec) { return spec.part ? *spec.part : whole; }

// Before anything is computed from them.
int64_t checked(int64_t value, const MatrixSpec& spec, const char* what) {
  check_dimension(value, spec.name, what);
  return value;
}

}  // namespace

MatrixSource::MatrixSource(const MatrixSpec& spec, const MappedFiles& files)
    : spec_(spec),
      files_(files),
      stored_out_(checked(spec.part ? spec.part->stored_out : spec.out, spec, "rows")),
      stored_in_(checked(spec.part ? spec.part->stored_in : spec.in, spec, "columns")),
      outputs_(part_of(spec).outputs, stored_out_, checked(spec.out, spec, "rows"), spec.name, "rows",
               order_to_follow(part_of(spec), files)),
      inputs_(part_of(spec).inputs, stored_in_, checked(spec.in, spec, "columns"), spec.name, "columns") {
  if (spec.column) {
    const int64_t columns = spec.weight.shape.size() == 2 ? spec.weight.shape[1] : 0;
    check_tensor(spec.weight, files, {DType::f16, DType::bf16, DType::f32}, {stored_in_, columns});
    if (*spec.column < 0 || *spec.column > columns - stored_out_) {
      refuse("Layer '" + spec.name + "' takes " + std::to_string(stored_out_) + " columns from " +
             std::to_string(*spec.column) + " on; the tensor has " + std::to_string(columns));
    }
    // They are read in narrow columns, which the kernel's own read-ahead does not recognize.
    files[spec.weight.file]->prefetch(spec.weight.offset, spec.weight.bytes);
  } else {
    check_tensor(spec.weight, files, {DType::f16, DType::bf16, DType::f32}, {stored_out_, stored_in_});
  }
  if (spec.bias) check_tensor(*spec.bias, files, {DType::f16, DType::bf16, DType::f32}, {stored_out_});
}

void MatrixSource::read(int64_t first, int64_t count, void* rows) const {
  if (first < 0 || count < 0 || first > spec_.out - count) {
    throw Error("INTERNAL", std::to_string(count) + " rows from row " + std::to_string(first) +
                                " on were asked for of '" + spec_.name + "', which has " + std::to_string(spec_.out));
  }
  const auto element = static_cast<int64_t>(byte_size(spec_.weight.dtype));
  const int64_t stored_bytes = stored_in_ * element, row_bytes = spec_.in * element;
  auto* target = static_cast<uint8_t*>(rows);
  const auto take = [&](int64_t row, int64_t stored_row, int64_t length) {
    uint8_t* to = target + (row - first) * row_bytes;
    if (spec_.column) {
      const int64_t column = *spec_.column + stored_row;
      return element == 2 ? read_columns<uint16_t>(column, length, to) : read_columns<uint32_t>(column, length, to);
    }
    const uint8_t* from = tensor_bytes(spec_.weight, files_, stored_row * stored_bytes, length * stored_bytes);
    if (inputs_.are_all()) {
      std::memcpy(to, from, length * row_bytes);
      return;
    }
    for (int64_t i = 0; i < length; ++i, to += row_bytes, from += stored_bytes) {
      inputs_.for_each(
          0, spec_.in,
          [&](int64_t at, int64_t stored, int64_t n) {
            std::memcpy(to + at * element, from + stored * element, n * element);
          },
          [&](int64_t at, int64_t n) { std::memset(to + at * element, 0, n * element); });
    }
  };
  outputs_.for_each(first, count, take, [&](int64_t row, int64_t length) {
    std::memset(target + (row - first) * row_bytes, 0, length * row_bytes);
  });
}

// Columns of a weight that is stored input by input, as rows. Only this part of each stored row is touched.
template <class Element>
void MatrixSource::read_columns(int64_t first_column, int64_t count, uint8_t* rows) const {
  constexpr int64_t size = sizeof(Element);
  const int64_t columns = spec_.weight.shape[1], row_bytes = spec_.in * size;
  inputs_.for_each(
      0, spec_.in,
      [&](int64_t at, int64_t stored, int64_t n) {
        for (int64_t k = 0; k < n; ++k) {
          const int64_t offset = ((stored + k) * columns + first_column) * size;
          const uint8_t* from = tensor_bytes(spec_.weight, files_, offset, count * size);
          uint8_t* to = rows + (at + k) * size;
          for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * row_bytes, from + i * size, size);
        }
      },
      [&](int64_t at, int64_t n) {
        for (int64_t i = 0; i < count; ++i) std::memset(rows + i * row_bytes + at * size, 0, n * size);
      });
}

std::vector<float> MatrixSource::bias() const {
  if (!spec_.bias) return {};
  const std::vector<float> stored = read_vector(*spec_.bias, stored_out_, files_);
  std::vector<float> bias(spec_.out, 0.0f);
  outputs_.for_each(
      0, spec_.out,
      [&](int64_t row, int64_t stored_row, int64_t length) {
        std::copy_n(stored.begin() + stored_row, length, bias.begin() + row);
      },
      [](int64_t, int64_t) {});
  return bias;
}

}  // namespace billfish
