// The inner loops of row-wise operators: the table that every instruction set has, and the loops, written once over its
// vector type.
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
  // out[c] = silu(sum over j < taps of weight[c * taps + j] * rows[j][c]); a row that is null is one of zeros.
  void (*conv_silu)(const float* const* rows, const float* weight, int taps, int64_t count, float* out);
  // Rotates (x[i], x[half + i]) by the angle with cosine cos[i] and sine sin[i].
  void (*rotate)(float* x, const float* cos, const float* sin, int64_t half);
};

// The table of the instruction set in use.
const RowKernels& row_kernels();

// The loops over the vector type of one kernels_*.cc, whose unnamed namespace keeps them from being merged with those
// of another instruction set.
template <class Vector>
struct RowLoops {
  using Value = typename Vector::Value;
  static constexpr int64_t width = Vector::width;

  // Calls step(at, count) over [0, total): whole vectors with count == width, then one shorter step for the remainder.
  // `step` is inlined; its branches on count == width vanish from the loop.
  template <class Step>
  static inline __attribute__((always_inline)) void for_vectors(int64_t total, Step step) {
    int64_t at = 0;
    for (; at + width <= total; at += width) step(at, width);
    if (at < total) step(at, total - at);
  }

  static inline __attribute__((always_inline)) Value load(const float* from, int64_t count) {
    return count == width ? Vector::load(from) : Vector::load(from, count);
  }
  static inline __attribute__((always_inline)) void store(float* to, Value value, int64_t count) {
    count == width ? Vector::store(to, value) : Vector::store(to, value, count);
  }

  static void widen(DType type, const void* from, int64_t count, float* to) {
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

  static void narrow(DType type, const float* from, int64_t count, void* to) {
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

  // Sums over a row in at least 32 lanes: a single fp32 sum over thousands of columns would lose precision. include(at,
  // n, sum) is the sum with the terms of n columns.
  template <class Include>
  static inline __attribute__((always_inline)) float sum_in_lanes(int64_t count, Include include) {
    constexpr int sums_in_flight = width >= 8 ? 4 : 32 / width;
    Value sums[sums_in_flight];
    for (Value& sum : sums) sum = Vector::zero();
    int64_t at = 0;
    for (; at + sums_in_flight * width <= count; at += sums_in_flight * width) {
      for (int i = 0; i < sums_in_flight; ++i) sums[i] = include(at + i * width, width, sums[i]);
    }
    for_vectors(count - at, [&](int64_t rest, int64_t n) { sums[0] = include(at + rest, n, sums[0]); });
    for (int step = sums_in_flight / 2; step > 0; step /= 2) {
      for (int i = 0; i < step; ++i) sums[i] = Vector::add(sums[i], sums[i + step]);
    }
    return Vector::sum(sums[0]);
  }

  // The sum of get(at, n)^2.
  template <class Get>
  static inline __attribute__((always_inline)) float sum_of_squares(int64_t count, Get get) {
    return sum_in_lanes(count, [&](int64_t at, int64_t n, Value sum) {
      const Value value = get(at, n);
      return Vector::multiply_add(value, value, sum);
    });
  }

  // 1 / sqrt(mean of squares + eps).
  static inline __attribute__((always_inline)) Value norm_factor(float squares, int64_t count, float eps) {
    return Vector::broadcast(1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + eps));
  }

  static inline __attribute__((always_inline)) void normalize(const float* x, float squares, const float* weight,
                                                              int64_t count, float eps, float* out) {
    const Value factor = norm_factor(squares, count, eps);
    for_vectors(count, [&](int64_t at, int64_t n) {
      store(out + at, Vector::multiply(Vector::multiply(load(x + at, n), factor), load(weight + at, n)), n);
    });
  }

  static void rms_norm(const float* x, const float* weight, int64_t count, float eps, float* out) {
    const float squares = sum_of_squares(count, [&](int64_t at, int64_t n) { return load(x + at, n); });
    normalize(x, squares, weight, count, eps, out);
  }

  static void add_rms_norm(float* x, const float* y, const float* weight, int64_t count, float eps, float* out) {
    const float squares = sum_of_squares(count, [&](int64_t at, int64_t n) {
      const Value sum = Vector::add(load(x + at, n), load(y + at, n));
      store(x + at, sum, n);
      return sum;
    });
    normalize(x, squares, weight, count, eps, out);
  }

  // out = x - mean(x).
  static inline __attribute__((always_inline)) void center(const float* x, int64_t count, float* out) {
    const float sum =
        sum_in_lanes(count, [&](int64_t at, int64_t n, Value s) { return Vector::add(load(x + at, n), s); });
    const Value mean = Vector::broadcast(sum / static_cast<float>(count));
    for_vectors(count, [&](int64_t at, int64_t n) { store(out + at, Vector::subtract(load(x + at, n), mean), n); });
  }

  // Next to a large mean the deviations are small, but they are exact differences of floats. What rounding of the mean
  // left in them is their own mean, which centering a second time removes.
  static void layer_norm(const float* x, const float* weight, const float* bias, int64_t count, float eps, float* out) {
    center(x, count, out);
    center(out, count, out);
    const float squares = sum_of_squares(count, [&](int64_t at, int64_t n) { return load(out + at, n); });
    const Value factor = norm_factor(squares, count, eps);
    for_vectors(count, [&](int64_t at, int64_t n) {
      const Value addend = bias != nullptr ? load(bias + at, n) : Vector::zero();
      const Value scaled = Vector::multiply(load(out + at, n), factor);
      store(out + at, Vector::multiply_add(scaled, load(weight + at, n), addend), n);
    });
  }

  static void add(const float* a, const float* b, int64_t count, float* out) {
    for_vectors(count,
                [&](int64_t at, int64_t n) { store(out + at, Vector::add(load(a + at, n), load(b + at, n)), n); });
  }

  static void scale(const float* x, float factor, int64_t count, float* out) {
    const Value factors = Vector::broadcast(factor);
    for_vectors(count, [&](int64_t at, int64_t n) { store(out + at, Vector::multiply(load(x + at, n), factors), n); });
  }

  static void add_scaled(const float* x, float factor, int64_t count, float* out) {
    const Value factors = Vector::broadcast(factor);
    for_vectors(count, [&](int64_t at, int64_t n) {
      store(out + at, Vector::multiply_add(load(x + at, n), factors, load(out + at, n)), n);
    });
  }

  static void silu_mul(const float* gate, const float* up, int64_t count, float* out) {
    const Value one = Vector::broadcast(1.0f);
    for_vectors(count, [&](int64_t at, int64_t n) {
      const Value g = load(gate + at, n);
      const Value e = Vector::exp(Vector::subtract(Vector::zero(), g));
      store(out + at, Vector::multiply(Vector::divide(g, Vector::add(one, e)), load(up + at, n)), n);
    });
  }

  static void conv_silu(const float* const* rows, const float* weight, int taps, int64_t count, float* out) {
    const Value one = Vector::broadcast(1.0f);
    for_vectors(count, [&](int64_t at, int64_t n) {
      Value sum = Vector::zero();
      for (int j = 0; j < taps; ++j) {
        if (rows[j] == nullptr) continue;
        float factors[width] = {};
        for (int64_t c = 0; c < n; ++c) factors[c] = weight[(at + c) * taps + j];
        sum = Vector::multiply_add(Vector::load(factors), load(rows[j] + at, n), sum);
      }
      const Value e = Vector::exp(Vector::subtract(Vector::zero(), sum));
      store(out + at, Vector::divide(sum, Vector::add(one, e)), n);
    });
  }

  static void rotate(float* x, const float* cos, const float* sin, int64_t half) {
    for_vectors(half, [&](int64_t at, int64_t n) {
      const Value c = load(cos + at, n), s = load(sin + at, n);
      const Value x1 = load(x + at, n), x2 = load(x + half + at, n);
      store(x + at, Vector::subtract(Vector::multiply(x1, c), Vector::multiply(x2, s)), n);
      store(x + half + at, Vector::add(Vector::multiply(x2, c), Vector::multiply(x1, s)), n);
    });
  }

  static constexpr RowKernels kernels = {widen, narrow,     rms_norm, add_rms_norm, layer_norm, add,
                                         scale, add_scaled, silu_mul, conv_silu,    rotate};
};

}  // namespace billfish::cpu
