// One float as a "vector" of width 1: operator kernels are written once over Vector, and over this one they are their
// own scalar reference. vector_avx512.h documents the functions.
//
// vector_*.h are in an unnamed namespace, and kernels call no inline function from elsewhere: the linker keeps one copy
// of an inline function, and must never keep one that was compiled for an instruction set the processor lacks.
#pragma once
#include <cmath>
#include <cstdint>

#include "engine/dtype.h"

namespace billfish::cpu {
namespace {

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
