#include "cpu/quantized_linear.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "engine/error.h"

namespace billfish::cpu {
namespace {

static_assert(row_tile == tile_outputs);

int64_t round_up(int64_t value, int64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Byte offsets of the sections of a packed block.
struct BlockLayout {
  size_t scales = 0, zeros = 0, output_scales = 0, bias = 0, order = 0, end = 0;
};

BlockLayout layout_of(const CanonicalShape& shape) {
  const auto refuse = [&](const std::string& what) {
    throw Error("INVALID_CHECKPOINT", "linear '" + shape.name + "': " + what);
  };
  const int float_bits = shape.codes == CodeType::e4m3 ? 8 : 4;
  if (shape.codes != CodeType::integer && (shape.bits != float_bits || shape.has_zero_points)) {
    refuse("floats of " + std::to_string(shape.bits) + " bits" + (shape.has_zero_points ? " with zero points" : "") +
           "; they have " + std::to_string(float_bits) + " bits and no zero points");
  }
  if (shape.has_output_scales && shape.codes == CodeType::e4m3) refuse("floats of 8 bits with scales of outputs");
  if (shape.bits != 4 && shape.bits != 8) {
    refuse("codes of " + std::to_string(shape.bits) + " bits; the CPU backend takes 4 or 8");
  }
  if (shape.out <= 0 || shape.in <= 0 || shape.group_size <= 0) {
    refuse("shape [" + std::to_string(shape.out) + ", " + std::to_string(shape.in) + "] in groups of " +
           std::to_string(shape.group_size) + "; all of these must be positive");
  }
  if (shape.group_size < shape.in && shape.group_size % 8 != 0) {
    refuse("groups of " + std::to_string(shape.group_size) +
           " inputs; the CPU backend takes multiples of 8, or one group of all inputs");
  }
  const bool in_bytes = shape.scale_type == DType::f8_e4m3 || shape.scale_type == DType::f8_e8m0;
  const bool in_halves = shape.scale_type == DType::f16 || shape.scale_type == DType::bf16;
  if (shape.codes == CodeType::e2m1 ? !in_bytes : !in_halves && shape.scale_type != DType::f32) {
    refuse("scales must be float16, bfloat16 or float32, and bytes with floats of 4 bits");
  }
  if (!shape.order.empty() && static_cast<int64_t>(shape.order.size()) != shape.order_length()) {
    refuse("an order of " + std::to_string(shape.order.size()) + " inputs; it has " +
           std::to_string(shape.order_length()));
  }
  const auto part = [](int64_t bytes) { return static_cast<size_t>(round_up(bytes, 64)); };
  const int64_t outputs = round_up(shape.out, tile_outputs);
  BlockLayout layout;
  layout.scales = part(outputs * round_up(shape.in, 8) * shape.bits / 8);
  layout.zeros = layout.scales + part(outputs * shape.groups() * static_cast<int64_t>(byte_size(shape.scale_type)));
  layout.output_scales = layout.zeros + (shape.has_zero_points ? part(outputs * shape.groups()) : 0);
  layout.bias = layout.output_scales + (shape.has_output_scales ? part(outputs * 4) : 0);
  layout.order = layout.bias + (shape.has_bias ? part(outputs * 4) : 0);
  layout.end = layout.order + part(shape.order_length() * 4);
  return layout;
}

// The eight codes of a canonical word (lowest bits first) in the order of a packed lane: code j of the lower four goes
// to the low nibble of byte j, code j of the upper four to the high nibble.
uint32_t interleave_nibbles(uint32_t word) {
  const auto spread = [](uint32_t four) {
    four = (four | four << 8) & 0x00ff00ffu;
    return (four | four << 4) & 0x0f0f0f0fu;
  };
  return spread(word & 0xffffu) | spread(word >> 16) << 4;
}

}  // namespace

size_t packed_bytes(const CanonicalShape& shape) { return layout_of(shape).end; }

QuantizedLinear make_quantized_linear(const CanonicalShape& shape, void* block) {
  const BlockLayout layout = layout_of(shape);
  uint8_t* const bytes = static_cast<uint8_t*>(block);
  QuantizedLinear linear;
  linear.bits = shape.bits;
  linear.type = shape.codes;
  linear.out = shape.out;
  linear.in = shape.in;
  linear.group_size = std::min(shape.group_size, shape.in);
  linear.scale_type = shape.scale_type;
  linear.groups = shape.groups();
  linear.padded_in = round_up(shape.in, 8);
  linear.codes = bytes;
  linear.scales = bytes + layout.scales;
  if (shape.has_zero_points) linear.zeros = bytes + layout.zeros;
  if (shape.has_output_scales) linear.output_scales = reinterpret_cast<float*>(bytes + layout.output_scales);
  if (shape.has_bias) linear.bias = reinterpret_cast<float*>(bytes + layout.bias);
  if (!shape.order.empty()) {
    std::memcpy(bytes + layout.order, shape.order.data(), shape.order.size() * sizeof(int32_t));
    linear.order = reinterpret_cast<const int32_t*>(bytes + layout.order);
  }
  return linear;
}

void pack_rows(const QuantizedLinear& linear, const CanonicalRows& rows) {
  const int64_t words_in = (linear.in * linear.bits + 31) / 32;
  const int64_t words_out = linear.padded_in * linear.bits / 32;
  const size_t scale_bytes = byte_size(linear.scale_type);
  if (rows.first % tile_outputs != 0 || rows.first + rows.count > linear.out) {
    throw Error("INTERNAL", "pack_rows: rows " + std::to_string(rows.first) + " to " +
                                std::to_string(rows.first + rows.count) + " of " + std::to_string(linear.out) +
                                " do not start at a multiple of " + std::to_string(tile_outputs));
  }

  for (int64_t base = 0; base < rows.count; base += tile_outputs) {
    const int64_t tile = (rows.first + base) / tile_outputs;
    const int64_t lanes = std::min(tile_outputs, rows.count - base);
    uint32_t* const codes = reinterpret_cast<uint32_t*>(linear.codes) + tile * words_out * tile_outputs;
    // Reads a line of 16 words from each row before the next row: whole cache lines on both sides.
    for (int64_t line = 0; line < words_in; line += 16) {
      const int64_t line_end = std::min(line + 16, words_in);
      for (int64_t n = 0; n < lanes; ++n) {
        const uint32_t* const from = rows.codes.data() + (base + n) * words_in;
        uint32_t* const to = codes + n;
        if (linear.type == CodeType::e4m3) {
          // Two pairs of inputs a word.
          uint16_t* const pairs = reinterpret_cast<uint16_t*>(codes) + n;
          for (int64_t w = line; w < line_end; ++w) {
            pairs[2 * w * tile_outputs] = static_cast<uint16_t>(from[w]);
            pairs[(2 * w + 1) * tile_outputs] = static_cast<uint16_t>(from[w] >> 16);
          }
        } else if (linear.bits == 4) {
          for (int64_t w = line; w < line_end; ++w) to[w * tile_outputs] = interleave_nibbles(from[w]);
        } else {
          for (int64_t w = line; w < line_end; ++w) to[w * tile_outputs] = from[w];
        }
      }
    }
    for (int64_t group = 0; group < linear.groups; ++group) {
      const int64_t entry = (tile * linear.groups + group) * tile_outputs;
      for (int64_t n = 0; n < lanes; ++n) {
        const int64_t from = (base + n) * linear.groups + group;
        std::memcpy(static_cast<uint8_t*>(linear.scales) + (entry + n) * scale_bytes,
                    rows.scales.data() + from * scale_bytes, scale_bytes);
        if (linear.zeros != nullptr) linear.zeros[entry + n] = rows.zeros[from];
      }
    }
    if (linear.output_scales != nullptr) {
      std::memcpy(linear.output_scales + tile * tile_outputs, rows.output_scales.data() + base, lanes * sizeof(float));
    }
    if (linear.bias != nullptr) {
      std::memcpy(linear.bias + tile * tile_outputs, rows.bias.data() + base, lanes * sizeof(float));
    }
  }
}

int packed_code(const QuantizedLinear& weights, int64_t n, int64_t k) {
  const int64_t tile = n / tile_outputs, lane = n % tile_outputs;
  const uint8_t* const codes = weights.codes + tile * tile_outputs * weights.padded_in * weights.bits / 8;
  if (weights.type == CodeType::e4m3) return codes[(k / 2 * tile_outputs + lane) * 2 + k % 2];
  if (weights.bits == 8) return codes[(k / 4 * tile_outputs + lane) * 4 + k % 4];
  const int byte = codes[(k / 8 * tile_outputs + lane) * 4 + k % 4];
  const int code = k % 8 < 4 ? byte & 0xf : byte >> 4;
  return weights.type == CodeType::e2m1 ? e2m1_integers[code] : code;
}

int packed_zero(const QuantizedLinear& weights, int64_t n, int64_t group) {
  if (weights.type == CodeType::e2m1) return e2m1_zero;
  if (weights.zeros == nullptr) return 1 << (weights.bits - 1);
  return weights.zeros[(n / tile_outputs * weights.groups + group) * tile_outputs + n % tile_outputs];
}

float packed_scale(const QuantizedLinear& weights, int64_t n, int64_t group) {
  const int64_t entry = (n / tile_outputs * weights.groups + group) * tile_outputs + n % tile_outputs;
  const float unit = weights.type == CodeType::e2m1 ? 0.5f : 1.0f;
  switch (weights.scale_type) {
    case DType::f32:
      return unit * static_cast<const float*>(weights.scales)[entry];
    case DType::bf16:
      return unit * bf16_to_float(static_cast<const uint16_t*>(weights.scales)[entry]);
    case DType::f8_e4m3:
      return unit * e4m3_to_float(static_cast<const uint8_t*>(weights.scales)[entry]);
    case DType::f8_e8m0:
      return unit * e8m0_to_float(static_cast<const uint8_t*>(weights.scales)[entry]);
    default:
      return unit * f16_to_float(static_cast<const uint16_t*>(weights.scales)[entry]);
  }
}

}  // namespace billfish::cpu
