// Adjacent elements of a matrix in registers, as floats: read and written 16 bytes at a time.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// Elements per vector access if rows allow: 16 bytes of 16-bit elements, 32 of fp32 ones.
constexpr int wide = 8;

// 32-bit words of one access.
template <int words>
struct AccessOfWords;
template <>
struct AccessOfWords<1> {
  using Type = uint32_t;
};
template <>
struct AccessOfWords<2> {
  using Type = uint2;
};
template <>
struct AccessOfWords<4> {
  using Type = uint4;
};

// `count` words, a multiple of `access`, in accesses of `access` words.
template <int count, int access, class T>
DEVICE void load_words(Global<const T> from, uint32_t (&to)[count]) {
  struct Words {
    uint32_t values[access];
  };
  const auto parts = pointer_cast<const typename AccessOfWords<access>::Type>(from);
  UNROLL for (int part = 0; part < count / access; ++part) {
    const typename AccessOfWords<access>::Type read = parts[part];
    const auto words = bit_cast<Words>(read);
    UNROLL for (int i = 0; i < access; ++i) to[part * access + i] = words.values[i];
  }
}
template <int count, int access, class T>
DEVICE void store_words(Global<T> to, const uint32_t (&from)[count]) {
  struct Words {
    uint32_t values[access];
  };
  const auto parts = pointer_cast<typename AccessOfWords<access>::Type>(to);
  UNROLL for (int part = 0; part < count / access; ++part) {
    Words words;
    UNROLL for (int i = 0; i < access; ++i) words.values[i] = from[part * access + i];
    store_whole(parts + part, bit_cast<typename AccessOfWords<access>::Type>(words));
  }
}

// `count` adjacent elements, aligned to their size (16 bytes at most).
template <int count, class T>
DEVICE void load_floats(Global<const T> from, float (&to)[count]) {
  if constexpr (count == 1) {
    to[0] = to_float(T(from[0]));
  } else {
    constexpr int words = count * static_cast<int>(sizeof(T)) / 4;
    uint32_t bits[words];
    load_words<words, (words < 4 ? words : 4)>(from, bits);
    if constexpr (sizeof(T) == 4) {
      UNROLL for (int i = 0; i < count; ++i) to[i] = bit_cast<float>(bits[i]);
    } else {
      UNROLL for (int i = 0; i < words; ++i) {
        const float2 pair = to_float2(bit_cast<Pair<T>>(bits[i]));
        to[2 * i] = pair.x;
        to[2 * i + 1] = pair.y;
      }
    }
  }
}

template <int count, class T>
DEVICE void store_floats(Global<T> to, const float (&from)[count]) {
  if constexpr (count == 1) {
    to[0] = from_float<T>(from[0]);
  } else {
    constexpr int words = count * static_cast<int>(sizeof(T)) / 4;
    uint32_t bits[words];
    UNROLL for (int i = 0; i < words; ++i) {
      if constexpr (sizeof(T) == 4) {
        bits[i] = bit_cast<uint32_t>(from[i]);
      } else {
        bits[i] = bit_cast<uint32_t>(pair_from_floats<T>(from[2 * i], from[2 * i + 1]));
      }
    }
    store_words<words, (words < 4 ? words : 4)>(to, bits);
  }
}

// The largest finite number of a type.
template <class T>
constexpr float largest = 3.40282347e38f;
template <>
inline constexpr float largest<half> = 65504.0f;
template <>
inline constexpr float largest<bfloat16> = 3.38953139e38f;

// Saturates finite values that would round to infinity; infinity and NaN stay.
template <class T>
DEVICE float saturated(float x) {
  if (x > largest<T> && x < infinity) return largest<T>;
  if (x < -largest<T> && x > -infinity) return -largest<T>;
  return x;
}

// The prologue of a kernel in a `programmatic` launch: waits for the previous grid, and lets the next one be scheduled
// while this one works.
DEVICE void begin_after_previous_grid() {
  wait_for_previous_grid();
  launch_next_grid();
}

// Host: whether the matrix's rows allow vector accesses of `wide` elements.
template <class T>
bool is_wide(const Matrix<T>& matrix) {
  return reinterpret_cast<uintptr_t>(matrix.data) % 16 == 0 && matrix.columns % wide == 0 &&
         (matrix.rows <= 1 || matrix.stride * static_cast<int64_t>(sizeof(T)) % 16 == 0);
}

}  // namespace billfish::BILLFISH_TARGET
