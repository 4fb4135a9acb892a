// The kernels in plain C++: the reference that the SIMD versions mirror, and what runs on processors without AVX2.
//
// Vector is in an unnamed namespace, and kernels call no inline function from elsewhere: the linker keeps one copy of
// an inline function, and must never keep one that was compiled for an instruction set the processor lacks.
#include <algorithm>
#include <cmath>

#include "cpu/kernels.h"
#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {

// One float as a "vector" of width 1: the *_body.h are written once over Vector, and over this one they are their own
// scalar reference. types_avx512.h documents the functions.
struct Vector {
  using Value = float;
  static constexpr int width = 1;
  static constexpr int gemm_rows = 4, gemm_vectors = 4;
  static constexpr int dot_queries = 4;

  static Value zero() { return 0.0f; }
  static Value broadcast(float value) { return value; }
  static Value load(const float* from) { return *from; }
  static Value load(const float* from, int64_t) { return *from; }
  static void store(float* to, Value value) { *to = value; }
  static void store(float* to, Value value, int64_t) { *to = value; }

  static Value load_f16(const uint16_t* from) { return f16_to_float(*from); }
  static Value load_f16(const uint16_t* from, int64_t) { return f16_to_float(*from); }
  static Value load_bf16(const uint16_t* from) { return bf16_to_float(*from); }
  static Value load_bf16(const uint16_t* from, int64_t) { return bf16_to_float(*from); }
  static void store_f16(uint16_t* to, Value value) { *to = float_to_f16(clamp(value, largest_f16)); }
  static void store_f16(uint16_t* to, Value value, int64_t) { store_f16(to, value); }
  static void store_bf16(uint16_t* to, Value value) { *to = float_to_bf16(clamp(value, largest_bf16)); }
  static void store_bf16(uint16_t* to, Value value, int64_t) { store_bf16(to, value); }

  static Value add(Value a, Value b) { return a + b; }
  static Value subtract(Value a, Value b) { return a - b; }
  static Value multiply(Value a, Value b) { return a * b; }
  static Value divide(Value a, Value b) { return a / b; }
  static Value multiply_add(Value a, Value b, Value c) { return a * b + c; }
  static Value maximum(Value a, Value b) { return a > b ? a : b; }
  static float first(Value value) { return value; }
  static float sum(Value value) { return value; }
  static float largest(Value value) { return value; }
  static void sum4(Value a, Value b, Value c, Value d, float* to) { to[0] = a, to[1] = b, to[2] = c, to[3] = d; }

  static Value exp(Value x) { return ::expf(x); }
  static Value exp2(Value x) { return ::exp2f(x); }
  static void transpose(Value*) {}

 private:
  static constexpr float largest_f16 = 65504.0f, largest_bf16 = 3.38953139e38f;
  static float clamp(float value, float limit) {
    const float zero = value - value;
    if (zero != 0) return zero;  // NaN, as the value is or because it is an infinity
    return value > limit ? limit : value < -limit ? -limit : value;
  }
};

}  // namespace
}  // namespace billfish::cpu

// They need the types above.
#include "cpu/attention_kernels_body.h"
#include "cpu/delta_rule_body.h"

namespace billfish::cpu {
namespace {

// --- Activations to 16-bit integers, and quantized linears.

namespace quantized {

void quantize_segment(const float* x, int64_t count, int16_t* codes, float* scale, int32_t* sum) {
  // Magnitudes are compared as integers, so that a NaN ranks highest and reaches the output through the scale.
  uint32_t largest_bits = 0;
  for (int64_t k = 0; k < count; ++k) {
    const uint32_t magnitude = float_to_bits(x[k]) & 0x7fffffffu;
    if (magnitude > largest_bits) largest_bits = magnitude;
  }
  const float largest = bits_to_float(largest_bits);
  const SegmentScale segment = scale_of(largest_bits, largest);

  int32_t total = 0;
  const int64_t padded = (count + 7) / 8 * 8;
  for (int64_t k = 0; k < padded; ++k) {
    const float scaled = k < count && segment.finite ? x[k] * segment.inverse : 0.0f;
    const int32_t code = static_cast<int32_t>(std::nearbyintf(scaled));
    codes[k / 8 * 8 + position_in_eight[k % 8]] = static_cast<int16_t>(code);
    total += code;
  }
  *scale = segment.scale;
  *sum = total;
}

// Inputs of the packed order: position p within eight holds input_at[p].
constexpr int input_at[8] = {0, 2, 4, 6, 1, 3, 5, 7};

int64_t panel_end(const QuantizedLinear& weights, int64_t first_tile) {
  return std::min((first_tile + panel_tiles) * tile_outputs,
                  (weights.out + tile_outputs - 1) / tile_outputs * tile_outputs);
}

constexpr void (*arrange_for_gemv)(int16_t* codes, int64_t count) = nullptr;

void gemv(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  const int64_t last_output = std::min(last_tile * tile_outputs, weights.out);
  for (int64_t n = first_tile * tile_outputs; n < last_output; ++n) {
    float sums[max_gemv_rows] = {};
    for_each_segment(weights.in, weights.group_size, [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
      const int64_t padded = (count + 7) / 8 * 8;
      const float scale = packed_scale(weights, n, group);
      const int zero = packed_zero(weights, n, group);
      int32_t totals[max_gemv_rows] = {};
      for (int64_t k = 0; k < count; ++k) {
        const int weight = packed_code(weights, n, first + k) - zero;
        for (int r = 0; r < rows; ++r) {
          const int16_t* const codes = x.codes + first * x.rows + (first_row + r) * padded;
          totals[r] += weight * codes[k / 8 * 8 + position_in_eight[k % 8]];
        }
      }
      for (int r = 0; r < rows; ++r) {
        sums[r] += static_cast<float>(totals[r]) * (scale * x.scales[segment * x.rows + first_row + r]);
      }
    });
    const float output_scale = weights.output_scales != nullptr ? weights.output_scales[n] : 1.0f;
    const float bias = weights.bias != nullptr ? weights.bias[n] : 0.0f;
    for (int r = 0; r < rows; ++r) out[r * stride + n] = sums[r] * output_scale + bias;
  }
}

void unpack_integers(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  const int64_t first_output = first_tile * tile_outputs, last_output = panel_end(weights, first_tile);
  const int64_t group = first / weights.group_size;
  for (int64_t n = first_output; n < last_output; ++n) {
    const int zero = packed_zero(weights, n, group);
    for (int64_t k = 0; k < count; ++k) {
      const int64_t input = first + k / 8 * 8 + input_at[k % 8];
      panel[(k / 2 * panel_outputs + n - first_output) * 2 + k % 2] =
          static_cast<int16_t>(packed_code(weights, n, input) - zero);
    }
  }
}

void unpack_scales(const QuantizedLinear& weights, int64_t first_tile, int64_t group, float* scales) {
  const int64_t first_output = first_tile * tile_outputs, last_output = panel_end(weights, first_tile);
  for (int64_t n = first_output; n < last_output; ++n) scales[n - first_output] = packed_scale(weights, n, group);
}

void multiply_integers(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                       const float* x_scales, int64_t rows, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    int32_t totals[panel_outputs] = {};
    for (int64_t k = 0; k < count; ++k) {
      const int32_t code = codes[r * count + k];
      const int16_t* const from = panel + k / 2 * panel_outputs * 2 + k % 2;
      for (int64_t n = 0; n < panel_outputs; ++n) totals[n] += code * from[n * 2];
    }
    for (int64_t n = 0; n < panel_outputs; ++n) {
      sums[r * panel_outputs + n] += static_cast<float>(totals[n]) * (scales[n] * x_scales[r]);
    }
  }
}

void dequantize(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const int64_t first_output = first_tile * tile_outputs, last_output = panel_end(weights, first_tile);
  const int64_t group = first / weights.group_size;
  for (int64_t n = first_output; n < last_output; ++n) {
    const float scale = packed_scale(weights, n, group);
    const int zero = packed_zero(weights, n, group);
    for (int64_t k = 0; k < count; ++k) {
      panel[k * panel_outputs + n - first_output] =
          scale * static_cast<float>(packed_code(weights, n, first + k) - zero);
    }
  }
}

}  // namespace quantized

// --- Quantized linears whose codes are floats.

namespace float_code {

void gemv(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  const int64_t last_output = std::min(last_tile * tile_outputs, weights.out);
  for (int64_t n = first_tile * tile_outputs; n < last_output; ++n) {
    float sums[max_gemv_rows] = {};
    for_each_segment(weights.in, weights.group_size, [&](int64_t, int64_t group, int64_t first, int64_t count) {
      float totals[max_gemv_rows] = {};
      for (int64_t k = 0; k < count; ++k) {
        const float weight = e4m3_to_float(static_cast<uint8_t>(packed_code(weights, n, first + k)));
        for (int r = 0; r < rows; ++r) totals[r] += weight * x[first * x_rows + (first_row + r) * count + k];
      }
      for (int r = 0; r < rows; ++r) sums[r] += packed_scale(weights, n, group) * totals[r];
    });
    for (int r = 0; r < rows; ++r) out[r * stride + n] = sums[r] + (weights.bias != nullptr ? weights.bias[n] : 0.0f);
  }
}

void dequantize(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const int64_t first_output = first_tile * tile_outputs, last_output = quantized::panel_end(weights, first_tile);
  const int64_t group = first / weights.group_size;
  for (int64_t n = first_output; n < last_output; ++n) {
    const float scale = packed_scale(weights, n, group);
    for (int64_t k = 0; k < count; ++k) {
      panel[k * panel_outputs + n - first_output] =
          scale * e4m3_to_float(static_cast<uint8_t>(packed_code(weights, n, first + k)));
    }
  }
}

}  // namespace float_code

// --- Unquantized linears.

namespace matrix {

float element(const Matrix& weights, int64_t n, int64_t k) {
  const int64_t index = n * weights.in + k;
  switch (weights.type) {
    case DType::f32:
      return static_cast<const float*>(weights.data)[index];
    case DType::bf16:
      return bf16_to_float(static_cast<const uint16_t*>(weights.data)[index]);
    default:
      return f16_to_float(static_cast<const uint16_t*>(weights.data)[index]);
  }
}

void gemv(const Matrix& weights, const float* x, int64_t rows, int64_t first_output, int64_t last_output, float* out,
          int64_t stride) {
  // Sixteen partial sums, like a vector's: a single chain over thousands of inputs would lose precision.
  constexpr int64_t lanes = 16;
  for (int64_t n = first_output; n < last_output; ++n) {
    for (int64_t r = 0; r < rows; ++r) {
      float partial[lanes] = {};
      for (int64_t first = 0; first < weights.in; first += segment_inputs) {
        const int64_t count = std::min(segment_inputs, weights.in - first);
        const float* const segment = x + first * rows + r * count;
        for (int64_t k = 0; k < count; ++k) partial[k % lanes] += segment[k] * element(weights, n, first + k);
      }
      float sum = weights.bias != nullptr ? weights.bias[n] : 0.0f;
      for (int64_t lane = 0; lane < lanes; ++lane) sum += partial[lane];
      out[r * stride + n] = sum;
    }
  }
}

void transpose(const Matrix& weights, int64_t first_output, int64_t first, int64_t count, float* panel) {
  const int64_t outputs = std::min(panel_outputs, weights.out - first_output);
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t k = 0; k < count; ++k) panel[k * panel_outputs + n] = element(weights, first_output + n, first + k);
  }
}

void multiply_floats(const float* panel, int64_t count, const float* x, int64_t stride, int64_t rows, float* sums) {
  for (int64_t r = 0; r < rows; ++r) {
    float partial[panel_outputs] = {};
    for (int64_t k = 0; k < count; ++k) {
      const float value = x[r * stride + k];
      for (int64_t n = 0; n < panel_outputs; ++n) partial[n] += value * panel[k * panel_outputs + n];
    }
    for (int64_t n = 0; n < panel_outputs; ++n) sums[r * panel_outputs + n] += partial[n];
  }
}

}  // namespace matrix
}  // namespace

const Kernels kernels_scalar = BILLFISH_CPU_KERNELS;

}  // namespace billfish::cpu
