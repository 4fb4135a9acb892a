// A cuBLAS for tests, of the functions that billfish calls, on memory of the host: that it is found, is told what it
// must be, and gets its arguments in the right order. Version 99.8.7.
#include <cstddef>
#include <cstdint>

#include "engine/dtype.h"

using billfish::bf16_to_float;
using billfish::bits_to_float;
using billfish::f16_to_float;
using billfish::float_to_bf16;
using billfish::float_to_bits;
using billfish::float_to_f16;

namespace {

constexpr int invalid_value = 7, half = 2, bfloat16 = 14, single = 0;

struct Handle {
  void* stream = nullptr;
  size_t workspace = 0;
  int math_mode = 0;
};
int handles = 0;

float load(const void* from, int type, int64_t i) {
  if (type == single) return static_cast<const float*>(from)[i];
  const uint16_t bits = static_cast<const uint16_t*>(from)[i];
  return type == half ? f16_to_float(bits) : bf16_to_float(bits);
}
void store(void* to, int type, int64_t i, float value) {
  if (type == single) {
    static_cast<float*>(to)[i] = value;
  } else {
    static_cast<uint16_t*>(to)[i] = type == half ? float_to_f16(value) : float_to_bf16(value);
  }
}

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) int

FAKE cublasCreate_v2(void** handle) {
  *handle = new Handle;
  ++handles;
  return 0;
}
FAKE cublasDestroy_v2(void* handle) {
  delete static_cast<Handle*>(handle);
  --handles;
  return 0;
}
FAKE cublasSetStream_v2(void* handle, void* stream) {
  auto* const self = static_cast<Handle*>(handle);
  self->stream = stream;
  self->workspace = 0;  // as cuBLAS does
  return 0;
}
FAKE cublasSetWorkspace_v2(void* handle, void* workspace, size_t bytes) {
  if (reinterpret_cast<uintptr_t>(workspace) % 256 != 0) return invalid_value;
  static_cast<Handle*>(handle)->workspace = bytes;
  return 0;
}
FAKE cublasSetMathMode(void* handle, int mode) {
  static_cast<Handle*>(handle)->math_mode = mode;
  return 0;
}
FAKE cublasGetProperty(int which, int* value) {
  *value = 99 - which - (which > 0 ? 90 : 0);
  return 0;
}

// c = alpha * op(a) op(b) + beta * c, by columns: op(a) is m x k, op(b) k x n.
FAKE cublasGemmEx(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a,
                  int type_a, int stride_a, const void* b, int type_b, int stride_b, const void* beta, void* c,
                  int type_c, int stride_c, int compute_type, int algorithm) {
  const auto* const self = static_cast<Handle*>(handle);
  const bool types =
      type_a == type_b && (type_a == half || type_a == bfloat16) && (type_c == type_a || type_c == single);
  const bool strides = stride_a >= (transpose_a ? k : m) && stride_b >= (transpose_b ? n : k) && stride_c >= m;
  if (self->stream == nullptr || self->workspace == 0 || self->math_mode != 16) return invalid_value;
  if (!types || !strides || compute_type != 68 || algorithm != -1) return invalid_value;
  for (int column = 0; column < n; ++column) {
    for (int row = 0; row < m; ++row) {
      float sum = 0;
      for (int i = 0; i < k; ++i) {
        const int64_t at_a = transpose_a ? i + int64_t{row} * stride_a : row + int64_t{i} * stride_a;
        const int64_t at_b = transpose_b ? column + int64_t{i} * stride_b : i + int64_t{column} * stride_b;
        sum += load(a, type_a, at_a) * load(b, type_b, at_b);
      }
      const int64_t at = row + int64_t{column} * stride_c;
      const float addend = *static_cast<const float*>(beta);
      sum *= *static_cast<const float*>(alpha);
      store(c, type_c, at, addend == 0 ? sum : sum + addend * load(c, type_c, at));
    }
  }
  return 0;
}

// For the tests: how many handles there are.
FAKE fake_cublas_handles() { return handles; }
