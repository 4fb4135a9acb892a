// Neighbouring elements of a matrix in registers, as floats: read and written 16 bytes at a time.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// Elements that kernels take together where rows allow: 16 bytes of 16-bit elements, 32 of fp32 ones.
constexpr int wide = 8;

template <int bytes>
struct AccessOfBytes;
template <>
struct AccessOfBytes<2> {
  using Type = uint16_t;
};
template <>
struct AccessOfBytes<4> {
  using Type = uint32_t;
};
template <>
struct AccessOfBytes<8> {
  using Type = uint2;
};
template <>
struct AccessOfBytes<16> {
  using Type = uint4;
};

// `count` elements as they lie in memory, and as the accesses that move them.
template <class T, int count>
struct Elements {
  T values[count];

  static constexpr int bytes = static_cast<int>(sizeof(T)) * count;
  static constexpr int access_bytes = bytes < 16 ? bytes : 16;
  using Access = typename AccessOfBytes<access_bytes>::Type;
  struct Accesses {
    Access parts[bytes / access_bytes];
  };
};

template <int count, class T>
DEVICE void load_floats(Global<const T> from, float (&to)[count]) {
  typename Elements<T, count>::Accesses accesses;
  const auto parts = pointer_cast<const typename Elements<T, count>::Access>(from);
  UNROLL for (int i = 0; i < static_cast<int>(sizeof(accesses) / sizeof(accesses.parts[0])); ++i) {
    accesses.parts[i] = parts[i];
  }
  const auto elements = bit_cast<Elements<T, count>>(accesses);
  UNROLL for (int i = 0; i < count; ++i) to[i] = to_float(elements.values[i]);
}

template <int count, class T>
DEVICE void store_floats(Global<T> to, const float (&from)[count]) {
  Elements<T, count> elements;
  UNROLL for (int i = 0; i < count; ++i) elements.values[i] = from_float<T>(from[i]);
  const auto accesses = bit_cast<typename Elements<T, count>::Accesses>(elements);
  const auto parts = pointer_cast<typename Elements<T, count>::Access>(to);
  UNROLL for (int i = 0; i < static_cast<int>(sizeof(accesses) / sizeof(accesses.parts[0])); ++i) {
    parts[i] = accesses.parts[i];
  }
}

// The largest finite number of a type.
template <class T>
constexpr float largest = 3.40282347e38f;
template <>
inline constexpr float largest<half> = 65504.0f;
template <>
inline constexpr float largest<bfloat16> = 3.38953139e38f;

// Infinity and what rounds to it become the largest finite number; NaN stays NaN (every comparison with it is false).
template <class T>
DEVICE float saturated(float x) {
  if (x > largest<T>) return largest<T>;
  if (x < -largest<T>) return -largest<T>;
  return x;
}

// Host: whether runs of `wide` elements of the matrix's rows may be accessed as such.
template <class T>
bool is_wide(const Matrix<T>& matrix) {
  return reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 && matrix.columns % wide == 0 &&
         (matrix.rows <= 1 || matrix.stride * static_cast<int64_t>(sizeof(T)) % 16 == 0);
}

}  // namespace billfish::BILLFISH_TARGET
