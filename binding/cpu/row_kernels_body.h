// The row kernels, written once over Vector. Included once by each row_kernels*.cc, after its vector_*.h.
#pragma once
#include <cstdint>

#include "cpu/row_kernels.h"

namespace billfish::cpu {
namespace {

constexpr int64_t width = Vector::width;
using Value = Vector::Value;

// Calls step(at, count) over [0, total): whole vectors with count == width, and one shorter step where there is a rest.
// `step` is inlined; its branches on count == width vanish from the loop.
template <class Step>
inline __attribute__((always_inline)) void for_vectors(int64_t total, Step step) {
  int64_t at = 0;
  for (; at + width <= total; at += width) step(at, width);
  if (at < total) step(at, total - at);
}

inline __attribute__((always_inline)) Value load(const float* from, int64_t count) {
  return count == width ? Vector::load(from) : Vector::load(from, count);
}
inline __attribute__((always_inline)) void store(float* to, Value value, int64_t count) {
  count == width ? Vector::store(to, value) : Vector::store(to, value, count);
}

void widen(DType type, const void* from, int64_t count, float* to) {
  const uint16_t* halves = static_cast<const uint16_t*>(from);
  if (type == DType::f16) {
    for_vectors(count, [&](int64_t at, int64_t n) {
      store(to + at, n == width ? Vector::load_f16(halves + at) : Vector::load_f16(halves + at, n), n);
    });
  } else if (type == DType::bf16) {
    for_vectors(count, [&](int64_t at, int64_t n) {
      store(to + at, n == width ? Vector::load_bf16(halves + at) : Vector::load_bf16(halves + at, n), n);
    });
  } else {
    __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

void narrow(DType type, const float* from, int64_t count, void* to) {
  uint16_t* halves = static_cast<uint16_t*>(to);
  if (type == DType::f16) {
    for_vectors(count, [&](int64_t at, int64_t n) {
      const Value value = load(from + at, n);
      n == width ? Vector::store_f16(halves + at, value) : Vector::store_f16(halves + at, value, n);
    });
  } else if (type == DType::bf16) {
    for_vectors(count, [&](int64_t at, int64_t n) {
      const Value value = load(from + at, n);
      n == width ? Vector::store_bf16(halves + at, value) : Vector::store_bf16(halves + at, value, n);
    });
  } else {
    __builtin_memcpy(to, from, static_cast<size_t>(count) * sizeof(float));
  }
}

// The sum of get(at, n)^2, in 32 lanes or more: a single fp32 sum over thousands of columns would lose digits.
template <class Get>
inline __attribute__((always_inline)) float sum_of_squares(int64_t count, Get get) {
  constexpr int sums_in_flight = width >= 8 ? 4 : 32 / width;
  Value sums[sums_in_flight];
  for (Value& sum : sums) sum = Vector::zero();
  int64_t at = 0;
  for (; at + sums_in_flight * width <= count; at += sums_in_flight * width) {
    for (int i = 0; i < sums_in_flight; ++i) {
      const Value value = get(at + i * width, width);
      sums[i] = Vector::multiply_add(value, value, sums[i]);
    }
  }
  for_vectors(count - at, [&](int64_t rest, int64_t n) {
    const Value value = get(at + rest, n);
    sums[0] = Vector::multiply_add(value, value, sums[0]);
  });
  for (int step = sums_in_flight / 2; step > 0; step /= 2) {
    for (int i = 0; i < step; ++i) sums[i] = Vector::add(sums[i], sums[i + step]);
  }
  return Vector::sum(sums[0]);
}

inline __attribute__((always_inline)) void normalize(const float* x, float squares, const float* weight, int64_t count,
                                                     float eps, float* out) {
  const Value factor = Vector::broadcast(1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + eps));
  for_vectors(count, [&](int64_t at, int64_t n) {
    store(out + at, Vector::multiply(Vector::multiply(load(x + at, n), factor), load(weight + at, n)), n);
  });
}

void rms_norm(const float* x, const float* weight, int64_t count, float eps, float* out) {
  const float squares = sum_of_squares(count, [&](int64_t at, int64_t n) { return load(x + at, n); });
  normalize(x, squares, weight, count, eps, out);
}

void add_rms_norm(float* x, const float* y, const float* weight, int64_t count, float eps, float* out) {
  const float squares = sum_of_squares(count, [&](int64_t at, int64_t n) {
    const Value sum = Vector::add(load(x + at, n), load(y + at, n));
    store(x + at, sum, n);
    return sum;
  });
  normalize(x, squares, weight, count, eps, out);
}

void add(const float* a, const float* b, int64_t count, float* out) {
  for_vectors(count, [&](int64_t at, int64_t n) { store(out + at, Vector::add(load(a + at, n), load(b + at, n)), n); });
}

void scale(const float* x, float factor, int64_t count, float* out) {
  const Value factors = Vector::broadcast(factor);
  for_vectors(count, [&](int64_t at, int64_t n) { store(out + at, Vector::multiply(load(x + at, n), factors), n); });
}

void add_scaled(const float* x, float factor, int64_t count, float* out) {
  const Value factors = Vector::broadcast(factor);
  for_vectors(count, [&](int64_t at, int64_t n) {
    store(out + at, Vector::multiply_add(load(x + at, n), factors, load(out + at, n)), n);
  });
}

void silu_mul(const float* gate, const float* up, int64_t count, float* out) {
  const Value one = Vector::broadcast(1.0f);
  for_vectors(count, [&](int64_t at, int64_t n) {
    const Value g = load(gate + at, n);
    const Value e = Vector::exp(Vector::subtract(Vector::zero(), g));
    store(out + at, Vector::multiply(Vector::divide(g, Vector::add(one, e)), load(up + at, n)), n);
  });
}

void rotate(float* x, const float* cos, const float* sin, int64_t half) {
  for_vectors(half, [&](int64_t at, int64_t n) {
    const Value c = load(cos + at, n), s = load(sin + at, n);
    const Value x1 = load(x + at, n), x2 = load(x + half + at, n);
    store(x + at, Vector::subtract(Vector::multiply(x1, c), Vector::multiply(x2, s)), n);
    store(x + half + at, Vector::add(Vector::multiply(x2, c), Vector::multiply(x1, s)), n);
  });
}

constexpr RowKernels kernels = {widen, narrow, rms_norm, add_rms_norm, add, scale, add_scaled, silu_mul, rotate};

}  // namespace
}  // namespace billfish::cpu
