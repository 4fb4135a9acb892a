// The inner loops of linear(), one set per instruction set. linear.cc splits the work and calls them.
//
// kernels_avx2.cc and kernels_avx512.cc, which are compiled for wider instruction sets, see only the plain structs
// below and call no inline function of another header: the linker might keep their copy of it, which an older processor
// cannot run.
#pragma once
#include <cstdint>

#include "cpu/features.h"
#include "engine/dtype.h"

namespace billfish::cpu {

// Outputs that a packed tile holds, and inputs that are summed as integers before a scale is applied.
constexpr int64_t tile_outputs = 16;
constexpr int64_t segment_inputs = 128;
// Outputs of a panel: the weights that a GEMM unpacks at once into the first-level cache.
constexpr int64_t panel_tiles = 4;
constexpr int64_t panel_outputs = panel_tiles * tile_outputs;
// A GEMV fetches its weights that many bytes ahead: left to the hardware, one core reads at three quarters of the
// speed.
constexpr int64_t fetch_ahead = 8192;
// Rows of x that one pass of a quantized GEMV serves, and of a matrix's.
constexpr int max_gemv_rows = 4;
constexpr int64_t max_matrix_gemv_rows = 16;

// A QuantizedLinear as the kernels see it; quantized_linear.h draws the layout.
struct PackedWeights {
  int bits = 4;
  DType scale_type = DType::f16;
  int64_t out = 0, in = 0, group_size = 0;
  int64_t groups = 0, padded_in = 0;
  const uint8_t* codes = nullptr;
  const void* scales = nullptr;
  const uint8_t* zeros = nullptr;  // null: the zero point is 2^(bits-1) everywhere
  const float* bias = nullptr;
};

// Activations as 16-bit integers; quantize_activation.h explains them.
struct QuantizedActivations {
  int64_t rows = 0;
  const int16_t* codes = nullptr;  // [segment][row][inputs of the segment, rounded up to 8]
  const float* scales = nullptr;   // [segment][row]
  const int32_t* sums = nullptr;   // [segment][row], of the codes
};

// What a kernel needs of a Matrix.
struct MatrixWeights {
  DType type = DType::f16;
  int64_t out = 0, in = 0;
  const void* data = nullptr;
  const float* bias = nullptr;
};

struct QuantizedLinearKernels {
  // One segment of one row: x [count] -> codes [count rounded up to 8], their scale and their sum.
  void (*quantize_segment)(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum);

  // out[r * stride + n] = row first_row + r of x times weight row n, for the outputs n of tiles [first_tile, last_tile)
  // and r < rows <= max_gemv_rows.
  void (*gemv)(const PackedWeights& weights, const QuantizedActivations& x, int64_t first_row, int rows,
               int64_t first_tile, int64_t last_tile, float* out, int64_t stride);

  // A panel is tiles [first_tile, min(first_tile + panel_tiles, tiles of the weights)); outputs beyond the last are not
  // touched.
  //
  // Inputs [first, first + count) of a panel as 16-bit code - zero, in pairs of inputs as the activations have them:
  // panel[pair][panel_outputs][2]. first is a multiple of 8; always writes multiples of eight.
  void (*unpack_integers)(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count,
                          int16_t* panel);
  // The scales of `group`, as floats: scales[panel_outputs].
  void (*unpack_scales)(const PackedWeights& weights, int64_t first_tile, int64_t group, float* scales);
  // sums[r][n] += float(sum over k of codes[r * count + k] * panel[k][n]) * (x_scales[r] * scales[n]), n <
  // panel_outputs. count is a multiple of 8.
  void (*multiply_integers)(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                            const float* x_scales, int64_t rows, float* sums);
  // Inputs [first, first + count) of a panel as scale * (code - zero): panel[count][panel_outputs]. first is a multiple
  // of 8; always writes multiples of eight.
  void (*dequantize)(const PackedWeights& weights, int64_t first_tile, int64_t first, int64_t count, float* panel);
};

struct MatrixKernels {
  // out[r * stride + n] = row r of x times weight row n, for n in [first_output, last_output) and r < rows <=
  // max_matrix_gemv_rows. x is cut in segments: [segment of segment_inputs][row][input].
  void (*gemv)(const MatrixWeights& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output,
               float* out, int64_t stride);
  // Inputs [first, first + count) of outputs [first_output, first_output + panel_outputs) as
  // panel[count][panel_outputs]. Outputs beyond the last are not touched. Always writes multiples of sixteen inputs.
  void (*transpose)(const MatrixWeights& weights, int64_t first_output, int64_t first, int64_t count, float* panel);
  // sums[r][n] += sum over k < count of x[r * count + k] * panel[k][n], n < panel_outputs.
  void (*multiply_floats)(const float* panel, int64_t count, const float* x, int64_t rows, float* sums);
};

// Those of the instruction set in use.
const QuantizedLinearKernels& quantized_linear_kernels();
const MatrixKernels& matrix_kernels();

}  // namespace billfish::cpu
