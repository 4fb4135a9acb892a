// Quantized layers written to files from known numbers.
#pragma once
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "checkpoint/readers.h"
#include "engine/error.h"
#include "support/safetensors_file.h"

namespace fixtures {

using namespace billfish;

// A layer as plain numbers; codes in the layer's own order of inputs.
struct Layer {
  Format format = Format::gptq;
  int bits = 4;
  int64_t out = 0, in = 0, group_size = 0;
  bool symmetric = false;
  bool act_order = false;
  int64_t scale_rows = 1;  // fp8, compressed-tensors
  bool packed = true;      // compressed-tensors: codes and zero points in words, instead of one signed number a byte
  DType scale_type = DType::f16;

  std::vector<uint32_t> codes;          // [out][in]
  std::vector<uint32_t> zeros;          // [out][groups]
  std::vector<uint16_t> scales;         // [out][groups], finite in f16 and bf16
  std::vector<int32_t> group_of;        // [in]
  std::vector<int32_t> expected_order;  // [in]

  int64_t groups() const { return (in + group_size - 1) / group_size; }

  void fill_randomly(unsigned seed) {
    std::mt19937 random(seed);
    codes.resize(out * in);
    zeros.resize(out * groups());
    scales.resize(out * groups());
    for (auto& code : codes) code = random() & ((1u << bits) - 1);
    if (format == Format::fp8) {
      for (auto& code : codes) code ^= is_e4m3_nan(static_cast<uint8_t>(code)) ? 1 : 0;
    }
    for (auto& zero : zeros) zero = random() & ((1u << bits) - 1);
    for (auto& scale : scales) scale = static_cast<uint16_t>(random() & 0x3bff);
    for (int64_t n = 0; n < out; ++n) {
      const int64_t first = n / scale_rows * scale_rows;
      std::copy_n(&scales[first * groups()], groups(), &scales[n * groups()]);
      std::copy_n(&zeros[first * groups()], groups(), &zeros[n * groups()]);
    }
    group_of.resize(in);
    for (int64_t k = 0; k < in; ++k) group_of[k] = static_cast<int32_t>(k / group_size);
    if (act_order) std::shuffle(group_of.begin(), group_of.end(), random);
    expected_order.resize(in);
    for (int64_t k = 0; k < in; ++k) expected_order[k] = static_cast<int32_t>(k);
    std::stable_sort(expected_order.begin(), expected_order.end(),
                     [&](int32_t a, int32_t b) { return group_of[a] < group_of[b]; });
  }
};

// values[rows][columns] packed along the rows (down a column) or along the columns; `fill` in the codes that are too
// many.
inline std::vector<uint32_t> pack(const std::vector<uint32_t>& values, int64_t rows, int64_t columns, int bits,
                                  bool along_rows, uint32_t fill) {
  const int64_t per_word = 32 / bits;
  const int64_t length = along_rows ? rows : columns, lines = along_rows ? columns : rows;
  const int64_t words = (length + per_word - 1) / per_word;
  std::vector<uint32_t> packed(words * lines, 0);
  for (int64_t line = 0; line < lines; ++line) {
    for (int64_t i = 0; i < words * per_word; ++i) {
      const uint32_t value = i >= length ? fill : along_rows ? values[i * columns + line] : values[line * columns + i];
      packed[along_rows ? i / per_word * lines + line : line * words + i / per_word] |= value << (i % per_word * bits);
    }
  }
  return packed;
}

template <class Number>
std::vector<Number> transposed(const std::vector<Number>& values, int64_t rows, int64_t columns) {
  std::vector<Number> result(values.size());
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) result[j * rows + i] = values[i * columns + j];
  }
  return result;
}

// Rearranges the columns so that packing them in plain order gives AutoAWQ's interleave.
inline std::vector<uint32_t> interleaved(const std::vector<uint32_t>& values) {
  constexpr int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  std::vector<uint32_t> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = values[i / 8 * 8 + order[i % 8]];
  return result;
}

// Codes as signed numbers around their middle.
inline std::vector<int8_t> signed_numbers(const std::vector<uint32_t>& codes, int bits) {
  std::vector<int8_t> numbers(codes.size());
  for (size_t i = 0; i < codes.size(); ++i)
    numbers[i] = static_cast<int8_t>(static_cast<int>(codes[i]) - (1 << (bits - 1)));
  return numbers;
}

// Of values[out][groups], the first row of those that share theirs.
template <class Number>
std::vector<Number> shared_rows(const Layer& layer, const std::vector<Number>& values) {
  std::vector<Number> rows;
  for (int64_t n = 0; n < layer.out; n += layer.scale_rows) {
    const auto row = values.begin() + n * layer.groups();
    rows.insert(rows.end(), row, row + layer.groups());
  }
  return rows;
}

inline QuantizedSpec write(const Layer& layer, TemporaryFile& file, bool with_bias = true) {
  const int64_t out = layer.out, in = layer.in, groups = layer.groups(), per_word = 32 / layer.bits;
  const int64_t mask = (1 << layer.bits) - 1, rows = (out + layer.scale_rows - 1) / layer.scale_rows;
  QuantizedSpec spec;
  spec.name = "layer";
  spec.format = layer.format;
  spec.bits = layer.bits;
  spec.out = out;
  spec.in = in;
  spec.group_size = layer.group_size;
  spec.scale_rows = layer.scale_rows;
  spec.symmetric = layer.symmetric;
  spec.zero_offset = layer.format == Format::gptq ? 1 : 0;
  if (layer.format == Format::fp8) {
    spec.codes =
        file.write("weight", DType::f8_e4m3, {out, in}, std::vector<uint8_t>(layer.codes.begin(), layer.codes.end()));
    spec.scales = file.write("scale", layer.scale_type, {rows, groups}, shared_rows(layer, layer.scales));
  } else if (layer.format == Format::compressed_tensors && !layer.packed) {
    spec.codes = file.write("weight", DType::i8, {out, in}, signed_numbers(layer.codes, layer.bits));
    spec.scales = file.write("scale", layer.scale_type, {rows, groups}, shared_rows(layer, layer.scales));
    spec.zeros =
        file.write("zero", DType::i8, {rows, groups}, signed_numbers(shared_rows(layer, layer.zeros), layer.bits));
  } else if (layer.format == Format::compressed_tensors) {
    const int64_t words = (in + per_word - 1) / per_word;
    spec.codes = file.write("packed", DType::i32, {out, words}, pack(layer.codes, out, in, layer.bits, false, mask));
    spec.scales = file.write("scale", layer.scale_type, {rows, groups}, shared_rows(layer, layer.scales));
    spec.zeros = file.write("zero", DType::i32, {(rows + per_word - 1) / per_word, groups},
                            pack(shared_rows(layer, layer.zeros), rows, groups, layer.bits, true, 0));
    spec.stored_shape = file.write("shape", DType::i64, {2}, std::vector<int64_t>{out, in});
  } else if (layer.format == Format::awq_gemv) {
    const int64_t words = (groups + 7) / 8 + 1;  // one more than needed
    std::vector<uint32_t> zeros(out * words * 8, 15);
    std::vector<uint16_t> scales(out * words * 8, 0x7c00);  // infinity, which nobody may read
    for (int64_t row = 0; row < out; ++row) {
      std::copy_n(&layer.zeros[row * groups], groups, &zeros[row * words * 8]);
      std::copy_n(&layer.scales[row * groups], groups, &scales[row * words * 8]);
    }
    spec.codes = file.write("qweight", DType::i32, {out, in / 8}, pack(layer.codes, out, in, 4, false, 0));
    spec.scales = file.write("scales", layer.scale_type, {out, words * 8}, scales);
    spec.zeros = file.write("qzeros", DType::i32, {out, words}, pack(zeros, out, words * 8, 4, false, 0));
  } else {
    const bool awq = layer.format == Format::awq;
    std::vector<uint32_t> codes = transposed(layer.codes, out, in), zeros = transposed(layer.zeros, out, groups);
    if (awq) {
      codes = interleaved(codes);
      zeros = interleaved(zeros);
    } else {
      for (auto& zero : zeros) zero = (zero - 1) & mask;
    }
    spec.codes =
        awq ? file.write("qweight", DType::i32, {in, out / 8}, pack(codes, in, out, 4, false, 0))
            : file.write("qweight", DType::i32, {in / per_word, out}, pack(codes, in, out, layer.bits, true, 0));
    spec.zeros = file.write("qzeros", DType::i32, {groups, (out + per_word - 1) / per_word},
                            pack(zeros, groups, out, layer.bits, false, 0));
    spec.scales = file.write("scales", layer.scale_type, {groups, out}, transposed(layer.scales, out, groups));
  }
  if (layer.symmetric) spec.zeros.reset();
  if (layer.act_order) spec.group_index = file.write("g_idx", DType::i32, {in}, layer.group_of);
  if (with_bias) {
    std::vector<float> bias(out);
    for (int64_t i = 0; i < out; ++i) bias[i] = static_cast<float>(i) + 0.5f;
    spec.bias = file.write("bias", DType::f32, {out}, bias);
  }
  return spec;
}

inline Layer make(Format format, int bits, int64_t out, int64_t in, int64_t group_size, bool symmetric,
                  bool act_order) {
  Layer layer;
  layer.format = format;
  layer.bits = bits;
  layer.out = out;
  layer.in = in;
  layer.group_size = group_size;
  layer.symmetric = symmetric;
  layer.act_order = act_order;
  layer.fill_randomly(static_cast<unsigned>(out * 31 + in * 7 + bits));
  return layer;
}

inline Layer make_fp8(int64_t out, int64_t in, int64_t scale_rows, int64_t group_size) {
  Layer layer;
  layer.format = Format::fp8;
  layer.bits = 8;
  layer.out = out;
  layer.in = in;
  layer.group_size = group_size;
  layer.scale_rows = scale_rows;
  layer.symmetric = true;
  layer.fill_randomly(static_cast<unsigned>(out * 31 + in * 7 + scale_rows));
  return layer;
}

// A layer and its spec, to be spoilt by the tests below.
struct Written {
  explicit Written(const Layer& layer) : spec(write(layer, file)), files(file.map()) {}
  TemporaryFile file;
  QuantizedSpec spec;
  MappedFiles files;
};

inline std::string message_of(const QuantizedSpec& spec, const MappedFiles& files) {
  try {
    CanonicalRows rows;
    open_quantized(spec, files)->read(0, spec.out, rows);
  } catch (const Error& error) {
    return error.code() + ": " + error.what();
  }
  return "no error";
}

}  // namespace fixtures
