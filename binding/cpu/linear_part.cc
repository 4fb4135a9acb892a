#include "cpu/linear_part.h"

#include <cstring>

namespace billfish::cpu {
namespace {

LinearPart::Kind kind_of(Activation::Form form) {
  switch (form) {
    case Activation::Form::integers:
      return LinearPart::Kind::quantized_integers;
    case Activation::Form::pairs:
      return LinearPart::Kind::quantized_pairs;
    default:
      return LinearPart::Kind::quantized_floats;
  }
}

// Sums of outputs from `first_output` on, times their scales and plus their bias where there are any.
void write_block(const LinearPart& part, const float* scales, const float* bias, int64_t first_output,
                 int64_t first_row, int64_t rows, const float* sums) {
  const int64_t outputs = std::min(panel_outputs, part.outputs - first_output);
  for (int64_t r = 0; r < rows; ++r) {
    float* const to = part.row(first_row + r) + first_output;
    const float* const from = sums + r * panel_outputs;
    std::memcpy(to, from, outputs * sizeof(float));
    if (scales != nullptr) {
      for (int64_t n = 0; n < outputs; ++n) to[n] *= scales[first_output + n];
    }
    if (bias != nullptr) {
      for (int64_t n = 0; n < outputs; ++n) to[n] += bias[first_output + n];
    }
  }
}

void multiply_integer_block(const LinearPart& part, int64_t first_tile, int64_t first_row, int64_t rows, float* sums) {
  const QuantizedLinearKernels& kernels = quantized_linear_kernels();
  const QuantizedActivations& x = part.activation->integers;
  alignas(64) int16_t panel[segment_inputs * panel_outputs] = {};
  alignas(64) float scales[panel_outputs] = {};
  for_each_segment(part.weights.in, part.weights.group_size,
                   [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
                     const int64_t padded = divide_up(count, 8) * 8;
                     kernels.unpack_integers(part.weights, first_tile, first, padded, panel);
                     kernels.unpack_scales(part.weights, first_tile, group, scales);
                     kernels.multiply_integers(panel, scales, padded, x.codes + first * x.rows + first_row * padded,
                                               x.scales + segment * x.rows + first_row, rows, sums);
                   });
}

void multiply_float_block(const LinearPart& part, int64_t first_tile, int64_t first_row, int64_t rows, float* sums) {
  const MatrixKernels& kernels = matrix_kernels();
  const auto dequantize =
      part.weights.type == CodeType::e4m3 ? float_code_kernels().dequantize : quantized_linear_kernels().dequantize;
  const float* const x = part.activation->floats;
  // Half a segment: a panel of floats that leaves room for the activations in a first-level cache of 32 KB.
  constexpr int64_t panel_inputs = segment_inputs / 2;
  alignas(64) float panel[panel_inputs * panel_outputs] = {};
  const bool quantized = part.kind == LinearPart::Kind::quantized_floats;
  const int64_t in = quantized ? part.weights.in : part.matrix.in;
  const int64_t group_size = quantized ? part.weights.group_size : segment_inputs;
  for_each_segment(in, group_size, [&](int64_t, int64_t, int64_t first, int64_t count) {
    const float* const segment = x + first * part.rows + first_row * count;
    for (int64_t k = 0; k < count; k += panel_inputs) {
      const int64_t inputs = std::min(panel_inputs, count - k);
      if (quantized) {
        dequantize(part.weights, first_tile, first + k, inputs, panel);
      } else {
        kernels.transpose(part.matrix, first_tile * tile_outputs, first + k, inputs, panel);
      }
      kernels.multiply_floats(panel, inputs, segment + k, count, rows, sums);
    }
  });
}

}  // namespace

QuantizedLinear rows_of(const QuantizedLinear& all, int64_t first, int64_t count) {
  QuantizedLinear some = all;
  const int64_t tile = first / tile_outputs, entry = tile * all.groups * tile_outputs;
  some.out = count;
  some.codes += tile * tile_outputs * all.padded_in * all.bits / 8;
  some.scales = static_cast<uint8_t*>(all.scales) + entry * static_cast<int64_t>(byte_size(all.scale_type));
  if (all.zeros != nullptr) some.zeros += entry;
  if (all.output_scales != nullptr) some.output_scales += first;
  if (all.bias != nullptr) some.bias += first;
  return some;
}

Matrix rows_of(const Matrix& all, int64_t first, int64_t count) {
  Matrix some = all;
  some.out = count;
  some.data = static_cast<const uint8_t*>(all.data) + first * all.in * static_cast<int64_t>(byte_size(all.type));
  if (all.bias != nullptr) some.bias += first;
  return some;
}

LinearPart make_part(const LinearCall& call, int64_t rows, const Activation& activation) {
  LinearPart part;
  part.rows = rows;
  part.out = call.out;
  part.stride = call.stride;
  part.slots = call.slots;
  part.activation = &activation;
  if (call.matrix != nullptr) {
    part.matrix = *call.matrix;
    part.outputs = part.matrix.out;
    part.gemv = rows <= max_matrix_gemv_rows;
  } else {
    part.kind = kind_of(activation.form);
    part.weights = *call.quantized;
    part.outputs = part.weights.out;
    const bool has_gemv = part.kind != LinearPart::Kind::quantized_floats || part.weights.type == CodeType::e4m3;
    part.gemv = has_gemv && rows <= quantized_gemv_rows;
  }
  part.panels = divide_up(part.outputs, panel_outputs);
  return part;
}

void run_gemm(const LinearPart& part, int64_t first_piece, int64_t last_piece) {
  const int64_t block = rows_of_block(part.rows);
  alignas(64) float sums[block_rows * panel_outputs];
  for (int64_t piece = first_piece; piece < last_piece; ++piece) {
    const int64_t panel = piece % part.panels, first_row = piece / part.panels * block;
    const int64_t rows = std::min(block, part.rows - first_row);
    std::memset(sums, 0, sizeof(float) * rows * panel_outputs);
    if (part.kind == LinearPart::Kind::quantized_integers) {
      multiply_integer_block(part, panel * panel_tiles, first_row, rows, sums);
    } else {
      multiply_float_block(part, panel * panel_tiles, first_row, rows, sums);
    }
    const bool is_matrix = part.kind == LinearPart::Kind::matrix;
    const float* const scales = is_matrix ? nullptr : part.weights.output_scales;
    write_block(part, scales, is_matrix ? part.matrix.bias : part.weights.bias, panel * panel_outputs, first_row, rows,
                sums);
  }
}

// `outputs` of tiles from `first_tile` on, to out[r * stride + n], n from 0 on.
static void gemv_of_tiles(const LinearPart& part, int64_t first_row, int rows, int64_t first_tile, int64_t outputs,
                          float* out, int64_t stride) {
  const int64_t first = first_tile * tile_outputs;
  if (part.kind == LinearPart::Kind::matrix) {
    matrix_kernels().gemv(rows_of(part.matrix, first, outputs), part.activation->floats, rows, 0, outputs, out, stride);
  } else if (part.kind == LinearPart::Kind::quantized_floats) {
    float_code_kernels().gemv(rows_of(part.weights, first, outputs), part.activation->floats, part.rows, first_row,
                              rows, 0, divide_up(outputs, tile_outputs), out, stride);
  } else if (part.kind == LinearPart::Kind::quantized_pairs) {
    float_pair_kernels()->gemv(rows_of(part.weights, first, outputs), part.activation->pairs, part.rows, first_row,
                               rows, 0, divide_up(outputs, tile_outputs), out, stride);
  } else {
    quantized_linear_kernels().gemv(rows_of(part.weights, first, outputs), part.activation->integers, first_row, rows,
                                    0, divide_up(outputs, tile_outputs), out, stride);
  }
}

void run_gemv(const LinearPart& part, int64_t first_tile, int64_t last_tile) {
  const auto outputs_to = [&](int64_t tile) { return std::min(tile * tile_outputs, part.outputs); };
  // A matrix's kernel takes all rows at once.
  const int64_t rows_at_once = part.kind == LinearPart::Kind::matrix ? max_matrix_gemv_rows : max_gemv_rows;
  for (int64_t row = 0; row < part.rows; row += rows_at_once) {
    const int now = static_cast<int>(std::min(rows_at_once, part.rows - row));
    const int64_t first_output = first_tile * tile_outputs;
    if (part.slots.slots == nullptr) {
      gemv_of_tiles(part, row, now, first_tile, outputs_to(last_tile) - first_output, part.row(row) + first_output,
                    part.stride);
      continue;
    }
    float results[max_matrix_gemv_rows * panel_outputs];  // on their way to rows that are not evenly spaced
    for (int64_t tile = first_tile; tile < last_tile; tile += panel_tiles) {
      const int64_t first = tile * tile_outputs;
      const int64_t outputs = outputs_to(std::min(tile + panel_tiles, last_tile)) - first;
      gemv_of_tiles(part, row, now, tile, outputs, results, panel_outputs);
      for (int r = 0; r < now; ++r) {
        std::memcpy(part.row(row + r) + first, results + r * panel_outputs, outputs * sizeof(float));
      }
    }
  }
}

}  // namespace billfish::cpu
