// linear(): prepares the activation once for calls that share it, splits the outputs of their weights into pieces, and
// runs these on the pool. Every output is computed by one thread in one order: results do not depend on the number of
// threads.
//
//   few rows    GEMV: the weights stream through once for up to four rows; a piece is a tile of 16 outputs
//   many rows   GEMM: a piece is a panel of 64 outputs by a block of rows; 128 inputs of the panel at a time are
//               unpacked into the L1 cache and multiplied with all rows of the block
#include "cpu/linear.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <typeinfo>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"
#include "cpu/operators.h"
#include "cpu/quantized_linear.h"
#include "engine/error.h"

namespace billfish::cpu {
namespace {

// The number of rows up to which a GEMV is faster, since it does not unpack the weights.
constexpr int64_t quantized_gemv_rows = 4;
// Maximum rows of a GEMM piece, a multiple of the microkernel's six: their sums (33 KB) and, at usual widths, their
// activations stay in the L2 cache, and unpacking costs one or two percent of multiplying.
constexpr int64_t block_rows = 132;

// Maximum calls of one parallel region: more than the linears that any layer has on one input.
constexpr int max_calls_together = 8;

int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

enum class Kind { quantized_integers, quantized_floats, matrix };

// A call, and its range among the pieces of all calls.
struct Part {
  Kind kind = Kind::matrix;
  bool gemv = false;
  QuantizedLinear weights;
  Matrix matrix;
  const Activation* activation = nullptr;
  float* out = nullptr;
  int64_t stride = 0;
  int64_t outputs = 0, panels = 0;
  int64_t first_piece = 0, last_piece = 0;
};

void write_block(const Part& part, const float* bias, int64_t first_output, int64_t first_row, int64_t rows,
                 const float* sums) {
  const int64_t outputs = std::min(panel_outputs, part.outputs - first_output);
  for (int64_t r = 0; r < rows; ++r) {
    float* const to = part.out + (first_row + r) * part.stride + first_output;
    const float* const from = sums + r * panel_outputs;
    if (bias == nullptr) {
      std::memcpy(to, from, outputs * sizeof(float));
    } else {
      for (int64_t n = 0; n < outputs; ++n) to[n] = from[n] + bias[first_output + n];
    }
  }
}

void multiply_integer_block(const Part& part, int64_t first_tile, int64_t first_row, int64_t rows, float* sums) {
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

void multiply_float_block(const Part& part, int64_t all_rows, int64_t first_tile, int64_t first_row, int64_t rows,
                          float* sums) {
  const MatrixKernels& kernels = matrix_kernels();
  const QuantizedLinearKernels& quantized_kernels = quantized_linear_kernels();
  const float* const x = part.activation->floats;
  alignas(64) float panel[segment_inputs * panel_outputs] = {};
  const bool quantized = part.kind == Kind::quantized_floats;
  const int64_t in = quantized ? part.weights.in : part.matrix.in;
  const int64_t group_size = quantized ? part.weights.group_size : segment_inputs;
  for_each_segment(in, group_size, [&](int64_t, int64_t, int64_t first, int64_t count) {
    if (quantized) {
      quantized_kernels.dequantize(part.weights, first_tile, first, count, panel);
    } else {
      kernels.transpose(part.matrix, first_tile * tile_outputs, first, count, panel);
    }
    kernels.multiply_floats(panel, count, x + first * all_rows + first_row * count, rows, sums);
  });
}

// Rows of the pieces' blocks: as even as multiples of six allow.
int64_t rows_of_block(int64_t rows) {
  const int64_t blocks = divide_up(rows, block_rows);
  return std::min(block_rows, divide_up(divide_up(rows, blocks), 6) * 6);
}

void run_gemm(const Part& part, int64_t all_rows, int64_t first_piece, int64_t last_piece) {
  const int64_t block = rows_of_block(all_rows);
  alignas(64) float sums[block_rows * panel_outputs];
  for (int64_t piece = first_piece; piece < last_piece; ++piece) {
    const int64_t panel = piece % part.panels, first_row = piece / part.panels * block;
    const int64_t rows = std::min(block, all_rows - first_row);
    std::memset(sums, 0, sizeof(float) * rows * panel_outputs);
    if (part.kind == Kind::quantized_integers) {
      multiply_integer_block(part, panel * panel_tiles, first_row, rows, sums);
    } else {
      multiply_float_block(part, all_rows, panel * panel_tiles, first_row, rows, sums);
    }
    const float* const bias = part.kind == Kind::matrix ? part.matrix.bias : part.weights.bias;
    write_block(part, bias, panel * panel_outputs, first_row, rows, sums);
  }
}

void run_gemv(const Part& part, int64_t rows, int64_t first_tile, int64_t last_tile) {
  if (part.kind == Kind::matrix) {
    matrix_kernels().gemv(part.matrix, part.activation->floats, rows, first_tile * tile_outputs,
                          std::min(last_tile * tile_outputs, part.outputs), part.out, part.stride);
    return;
  }
  for (int64_t row = 0; row < rows; row += max_gemv_rows) {
    const int now = static_cast<int>(std::min<int64_t>(max_gemv_rows, rows - row));
    quantized_linear_kernels().gemv(part.weights, part.activation->integers, row, now, first_tile, last_tile,
                                    part.out + row * part.stride, part.stride);
  }
}

Part make_part(const LinearCall& call, const Rows& x, const Activation& activation) {
  Part part;
  part.out = call.out;
  part.stride = call.stride;
  part.activation = &activation;
  if (call.matrix != nullptr) {
    const Matrix& matrix = *call.matrix;
    part.kind = Kind::matrix;
    part.matrix = matrix;
    part.outputs = matrix.out;
    part.gemv = x.rows <= max_matrix_gemv_rows;
  } else {
    const QuantizedLinear& linear = *call.quantized;
    part.kind = activation.quantized ? Kind::quantized_integers : Kind::quantized_floats;
    part.weights = linear;
    part.outputs = linear.out;
    part.gemv = activation.quantized && x.rows <= quantized_gemv_rows;
  }
  part.panels = divide_up(part.outputs, panel_outputs);
  return part;
}

// Runs calls that share a prepared activation in one parallel region.
void run_together(const LinearCall* calls, int count, const Rows& x, const Activation& activation, ThreadPool& pool) {
  std::array<Part, max_calls_together> parts;
  const int64_t blocks = divide_up(x.rows, rows_of_block(x.rows));
  int64_t pieces = 0;
  for (int i = 0; i < count; ++i) {
    Part& part = parts[i] = make_part(calls[i], x, activation);
    part.first_piece = pieces;
    pieces += part.gemv ? divide_up(part.outputs, tile_outputs) : part.panels * blocks;
    part.last_piece = pieces;
  }
  pool.parallel_for(pieces, 1, [&](int64_t begin, int64_t end) {
    for (int i = 0; i < count; ++i) {
      const Part& part = parts[i];
      const int64_t first = std::max(begin, part.first_piece) - part.first_piece;
      const int64_t last = std::min(end, part.last_piece) - part.first_piece;
      if (first >= last) continue;
      if (part.gemv) {
        run_gemv(part, x.rows, first, last);
      } else {
        run_gemm(part, x.rows, first, last);
      }
    }
  });
}

}  // namespace

size_t linear_scratch_bytes(const LinearCall& call, int64_t rows, Precision precision) {
  return activation_bytes(activation_for(call, precision), rows);
}

void linear(const LinearCall* calls, int count, const Rows& x, Precision precision, const Scratch& scratch,
            ThreadPool& pool) {
  if (x.rows == 0) return;
  for (int first = 0, next; first < count; first = next) {
    Activation activation = activation_for(calls[first], precision);
    for (next = first + 1; next < count && next - first < max_calls_together; ++next) {
      if (!activation.same_preparation(activation_for(calls[next], precision))) break;
    }
    if (activation.in != x.columns) {
      throw Error("INTERNAL", "linear: x has " + std::to_string(x.columns) + " columns, the weight " +
                                  std::to_string(activation.in) + " inputs");
    }
    prepare(x, activation, scratch, pool);
    run_together(calls + first, next - first, x, activation, pool);
  }
}

void run(OperatorContext& context, const Call<billfish::Linear>& call) {
  context.linear_calls.clear();
  for (const Call<LinearTarget>& target : call.targets) {
    LinearCall& one = context.linear_calls.emplace_back();
    one.out = row_of(target.out, 0);
    one.stride = target.out.stride;
    const Weight& weight = *target.weight;
    if (typeid(weight) == typeid(QuantizedWeight)) {
      one.quantized = &static_cast<const QuantizedWeight&>(weight).linear;
    } else {
      one.matrix = &matrix_of(weight);
    }
  }
  linear(context.linear_calls.data(), static_cast<int>(context.linear_calls.size()), rows_of(call.x), context.precision,
         context.scratch, context.pool);
}

}  // namespace billfish::cpu
