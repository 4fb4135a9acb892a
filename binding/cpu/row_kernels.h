// The inner loops of row-wise operators, one table per instruction set.
#pragma once
#include <cstdint>

#include "engine/dtype.h"

namespace billfish::cpu {

// Rows of `count` elements. An output may be the same row as an fp32 input, but may not overlap it otherwise.
struct RowKernels {
  // fp32 from f32, f16 or bf16.
  void (*widen)(DType type, const void* from, int64_t count, float* to);
  // f32, f16 or bf16 from fp32: rounded to nearest even, saturated at the largest finite value. In 16 bits infinity
  // becomes NaN, so that a broken value stays visible, and NaN stays NaN.
  void (*narrow)(DType type, const float* from, int64_t count, void* to);
  // out = x / sqrt(mean(x^2) + eps) * weight.
  void (*rms_norm)(const float* x, const float* weight, int64_t count, float eps, float* out);
  // x += y, then the same.
  void (*add_rms_norm)(float* x, const float* y, const float* weight, int64_t count, float eps, float* out);
  // out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias; bias may be null.
  void (*layer_norm)(const float* x, const float* weight, const float* bias, int64_t count, float eps, float* out);
  void (*add)(const float* a, const float* b, int64_t count, float* out);
  // out = x * factor; out += x * factor.
  void (*scale)(const float* x, float factor, int64_t count, float* out);
  void (*add_scaled)(const float* x, float factor, int64_t count, float* out);
  // out = gate / (1 + exp(-gate)) * up.
  void (*silu_mul)(const float* gate, const float* up, int64_t count, float* out);
  // Rotates (x[i], x[half + i]) by the angle with cosine cos[i] and sine sin[i].
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);
};

// The table of the instruction set in use.
const RowKernels& row_kernels();

}  // namespace billfish::cpu
