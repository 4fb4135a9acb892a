#include "gemm/linear_weight.h"

#include <string>

#include "engine/error.h"
#include "gemm/layout.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

// --- Memory.

static void check_shape(const CanonicalShape& shape) {
  if (shape.bits != 4 && shape.bits != 8) {
    throw Error("UNSUPPORTED_MODEL",
                shape.name + " has " + std::to_string(shape.bits) + "-bit weights; GPUs take 4 and 8 bits.");
  }
  const bool is_fp4 = shape.codes == CodeType::e2m1;
  if (shape.codes != CodeType::integer && (shape.bits != (is_fp4 ? 4 : 8) || shape.has_zero_points)) {
    throw Error("INTERNAL", shape.name + " has floats of " + std::to_string(shape.bits) + " bits" +
                                (shape.has_zero_points ? " with zero points." : "."));
  }
  const auto scale_bytes = static_cast<int>(byte_size(shape.scale_type));
  if (is_fp4 != (scale_bytes == 1) || (shape.has_output_scales && !is_fp4)) {
    throw Error("INTERNAL", shape.name + " has scales of " + std::to_string(scale_bytes) + " bytes" +
                                (shape.has_output_scales ? " and output scales." : "."));
  }
  if (shape.groups() > 1 && shape.group_size % scale_block_inputs(scale_bytes) != 0) {
    throw Error("UNSUPPORTED_MODEL", shape.name + " has groups of " + std::to_string(shape.group_size) +
                                         " inputs; GPUs take multiples of " +
                                         std::to_string(scale_block_inputs(scale_bytes)) +
                                         ", or one group a row. Load it with device 'cpu'.");
  }
}

size_t quantized_bytes(const CanonicalShape& shape) {
  check_shape(shape);
  return PackedLayout(shape).total;
}

LinearWeight lay_out_quantized(Stream& stream, const CanonicalShape& shape, void* block) {
  check_shape(shape);
  const PackedLayout layout(shape);
  uint8_t* const data = static_cast<uint8_t*>(block);
  LinearWeight weight;
  weight.bits = shape.bits;
  weight.type = shape.codes;
  weight.out = shape.out;
  weight.in = shape.in;
  weight.group_size = shape.group_size;
  weight.scale_type = shape.scale_type;
  weight.codes = data + layout.codes;
  weight.scales = data + layout.scales;
  if (shape.has_zero_points) weight.zeros = data + layout.zeros;
  if (shape.has_output_scales) weight.output_scales = reinterpret_cast<float*>(data + layout.output_scales);
  if (shape.has_bias) weight.bias = reinterpret_cast<float*>(data + layout.bias);
  if (!shape.order.empty()) {
    auto* const order = reinterpret_cast<int32_t*>(data + layout.order);
    stream.copy_to_device(order, shape.order.data(), shape.order.size() * sizeof(int32_t));
    weight.order = order;
  }
  return weight;
}

LinearWeight lay_out_matrix(Stream& stream, int64_t out, int64_t in, DType element_type, const std::vector<float>& bias,
                            void* block) {
  LinearWeight weight;
  weight.out = out;
  weight.in = in;
  weight.element_type = element_type;
  weight.elements = static_cast<uint16_t*>(block);
  const MatrixLayout layout(out, in, !bias.empty());
  weight.stride = layout.stride;
  if (!bias.empty()) {
    weight.bias = reinterpret_cast<float*>(static_cast<uint8_t*>(block) + layout.bias);
    stream.copy_to_device(weight.bias, bias.data(), bias.size() * sizeof(float));
  }
  return weight;
}

// --- Loading: canonical rows to the packed layout.

static void check_slab(const LinearWeight& weight, int64_t first, int64_t count) {
  if (first < 0 || count <= 0 || first % strip_outputs != 0 || first + count > weight.out ||
      (count % strip_outputs != 0 && first + count != weight.out)) {
    throw Error("INTERNAL", "A slab of rows [" + std::to_string(first) + ", " + std::to_string(first + count) +
                                ") does not fit a weight of " + std::to_string(weight.out) + " rows in strips of " +
                                std::to_string(strip_outputs) + ".");
  }
}

namespace {

constexpr uint32_t threads = 256;

uint32_t blocks_for(int64_t items) { return static_cast<uint32_t>((items + threads - 1) / threads); }

// Each thread writes one word of a strip's codes, from two outputs' words over eight inputs each. Blocks: x along the
// strip, y over the slab's strips.
template <int bits>
struct PackCodes {
  static constexpr int max_threads = threads;
  Global<const uint32_t> rows;  // [count][row_words]
  Global<uint32_t> codes;       // from the slab's first strip on
  int64_t row_words, strip_words, inputs, count;

  DEVICE void operator()() const {
    const int64_t word = int64_t{block_index().x} * threads + thread_index().x;
    if (word >= strip_words) return;
    constexpr int block_words = codes_block_bytes(bits) / 4;
    const int64_t block = word / block_words;
    const auto place = static_cast<int>(word % block_words);
    uint32_t packed = 0;
    if constexpr (bits == 4) {
      const int lane = place / 4, tile = place % 4;
      UNROLL for (int part = 0; part < 4; ++part) {
        const int output = 16 * tile + 8 * (part % 2) + lane / 4;
        UNROLL for (int odd = 0; odd < 2; ++odd) {
          const int64_t input = block * block_inputs + part / 2 * 8 + lane % 4 * 2 + odd;
          packed |= code(output, input) << (16 * odd + 4 * part);
        }
      }
    } else {
      const int lane = place % 128 / 4, tile = place / 128 * 2 + place % 4 / 2, right = place % 2;
      UNROLL for (int upper = 0; upper < 2; ++upper) {
        UNROLL for (int odd = 0; odd < 2; ++odd) {
          const int64_t input = block * block_inputs + right * 8 + lane % 4 * 2 + odd;
          packed |= code(16 * tile + 8 * upper + lane / 4, input) << (16 * upper + 8 * odd);
        }
      }
    }
    codes[block_index().y * strip_words + word] = packed;
  }

  DEVICE uint32_t code(int output, int64_t input) const {
    const int64_t row = int64_t{block_index().y} * strip_outputs + output;
    if (row >= count || input >= inputs) return 0;
    const uint32_t word = load_readonly<uint32_t>(rows + row * row_words + input * bits / 32);
    return word >> (input * bits % 32) & ((1u << bits) - 1);
  }
};

// Scales or zero points: [row][group] to [strip][packed group][entry_index()]. One thread an entry.
template <class T>
struct PackEntries {
  static constexpr int max_threads = threads;
  Global<const T> rows;
  Global<T> entries;                     // from the slab's first strip on
  int64_t groups, packed_groups, split;  // of a row; packed groups that a group is kept as
  int64_t count;

  DEVICE void operator()() const {
    const int64_t i = int64_t{block_index().x} * threads + thread_index().x;
    if (i >= packed_groups * strip_outputs) return;
    const auto place = static_cast<int>(i % strip_outputs);
    const int output = place % 8 / 2 * 16 + place % 2 * 8 + place / 8;
    const int64_t row = int64_t{block_index().y} * strip_outputs + output, group = i / strip_outputs / split;
    T value = {};
    if (row < count) value = rows[row * groups + group];
    entries[block_index().y * packed_groups * strip_outputs + i] = value;
  }
};

template <class From, class To>
struct ConvertRows {
  static constexpr int max_threads = threads;
  Global<const From> rows;  // [count][inputs]
  Global<To> elements;
  int64_t inputs, stride, count;

  DEVICE void operator()() const {
    const int64_t i = int64_t{block_index().x} * threads + thread_index().x, row = i / stride, column = i % stride;
    if (row >= count) return;
    To value = {};
    if (column < inputs) value = from_float<To>(to_float(From(rows[row * inputs + column])));
    elements[i] = value;
  }
};

template <class T>
void pack_entries(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab, const void* rows,
                  uint8_t* entries) {
  const int64_t packed_size = packed_group_size(weight.group_size, weight.in);
  const int64_t groups = ceil_div(weight.in, weight.group_size), packed_groups = ceil_div(weight.in, packed_size);
  const int64_t split = groups == 1 ? 1 : weight.group_size / packed_size;
  const auto strips = static_cast<uint32_t>(ceil_div<int64_t>(slab.count, strip_outputs));
  T* first = reinterpret_cast<T*>(entries) + slab.first * packed_groups;  // a strip has 64 entries a group
  launch(stream, {.grid = {blocks_for(packed_groups * strip_outputs), strips}, .block = {threads}},
         PackEntries<T>{static_cast<const T*>(rows), first, groups, packed_groups, split, slab.count});
}

template <int bits>
void pack_codes(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab) {
  const int64_t blocks = round_up(weight.in, padded_inputs) / block_inputs;
  const int64_t strip_words = blocks * codes_block_bytes(bits) / 4;
  const auto strips = static_cast<uint32_t>(ceil_div<int64_t>(slab.count, strip_outputs));
  auto* first = reinterpret_cast<uint32_t*>(weight.codes) + slab.first / strip_outputs * strip_words;
  launch(stream, {.grid = {blocks_for(strip_words), strips}, .block = {threads}},
         PackCodes<bits>{slab.codes, first, (weight.in * bits + 31) / 32, strip_words, weight.in, slab.count});
}

template <class From, class To>
void convert(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, const void* rows) {
  launch(stream, {.grid = {blocks_for(count * weight.stride)}, .block = {threads}},
         ConvertRows<From, To>{static_cast<const From*>(rows),
                               reinterpret_cast<To*>(weight.elements) + first * weight.stride, weight.in, weight.stride,
                               count});
}

}  // namespace

void fill_quantized(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab) {
  check_slab(weight, slab.first, slab.count);
  if (weight.bits == 4) {
    pack_codes<4>(stream, weight, slab);
  } else {
    pack_codes<8>(stream, weight, slab);
  }
  if (weight.scale_type == DType::f32) {
    pack_entries<uint32_t>(stream, weight, slab, slab.scales, weight.scales);
  } else if (byte_size(weight.scale_type) == 1) {
    pack_entries<uint8_t>(stream, weight, slab, slab.scales, weight.scales);
  } else {
    pack_entries<uint16_t>(stream, weight, slab, slab.scales, weight.scales);
  }
  if (weight.zeros != nullptr) pack_entries<uint8_t>(stream, weight, slab, slab.zeros, weight.zeros);
  if (weight.output_scales != nullptr) {
    stream.copy(weight.output_scales + slab.first, slab.output_scales, slab.count * sizeof(float));
  }
  if (weight.bias != nullptr) stream.copy(weight.bias + slab.first, slab.bias, slab.count * sizeof(float));
}

void fill_matrix(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, DType type,
                 const void* rows) {
  check_slab(weight, first, count);
  const bool to_half = weight.element_type == DType::f16;
  if (type == DType::f32) {
    to_half ? convert<float, half>(stream, weight, first, count, rows)
            : convert<float, bfloat16>(stream, weight, first, count, rows);
  } else if (type == DType::f16) {
    to_half ? convert<half, half>(stream, weight, first, count, rows)
            : convert<half, bfloat16>(stream, weight, first, count, rows);
  } else {
    to_half ? convert<bfloat16, half>(stream, weight, first, count, rows)
            : convert<bfloat16, bfloat16>(stream, weight, first, count, rows);
  }
}

}  // namespace billfish::BILLFISH_TARGET
