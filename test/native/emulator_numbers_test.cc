// The emulated arithmetic: conversions and pairs of 16-bit numbers rounded as IEEE 754 says, and bit operations.
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>

#include "check.h"
#include "primitives/bits.h"
#include "primitives/numbers.h"

using namespace billfish::emulated;

namespace {

// By the book: mantissa_bits bits after the point, exponents from min_exponent.
double value_of(uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const double mantissa = std::ldexp(bits & ((1u << mantissa_bits) - 1), -mantissa_bits);
  const double sign = (bits & 0x8000u) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * INFINITY : NAN;
  return exponent == 0 ? sign * std::ldexp(mantissa, 1 - bias) : sign * std::ldexp(1 + mantissa, exponent - bias);
}
double value_of(half x) { return value_of(x.bits, 5, 10); }
double value_of(bfloat16 x) { return value_of(x.bits, 8, 7); }

// The nearest, ties to even, found among the neighbours of a guess. `exact` may be a long double.
template <class T>
T nearest(long double exact) {
  if (std::isnan(exact)) return T{0x7fff};
  T guess = from_float<T>(static_cast<float>(exact));
  T best = guess;
  long double best_distance = INFINITY;
  for (int step = -2; step <= 2; ++step) {
    const auto bits = static_cast<uint16_t>(guess.bits + step);
    if (((bits ^ guess.bits) & 0x8000u) != 0) continue;
    const T candidate{bits};
    long double value = value_of(candidate);
    if (std::isnan(value)) continue;
    // Infinity stands for the number that would follow the largest.
    if (std::isinf(value)) {
      const T largest{static_cast<uint16_t>(bits - 1)}, below{static_cast<uint16_t>(bits - 2)};
      value = 2 * static_cast<long double>(value_of(largest)) - value_of(below);
    }
    const long double distance = std::fabs(value - exact);
    if (distance < best_distance || (distance == best_distance && (bits & 1) == 0)) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

template <class T>
bool same(T a, T b) {
  if (std::isnan(value_of(a)) && std::isnan(value_of(b))) return true;
  return a.bits == b.bits || (value_of(a) == 0 && value_of(b) == 0);
}

template <class T>
void check_conversions() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const T x{static_cast<uint16_t>(bits)};
    const double expected = value_of(x);
    if (std::isnan(expected)) {
      CHECK(std::isnan(to_float(x)));
      continue;
    }
    CHECK_MESSAGE(to_float(x) == expected, bits);
    CHECK_MESSAGE(from_float<T>(to_float(x)).bits == bits, bits);
    // Halfway to the next one, and just beside it.
    if (std::isinf(expected) || (bits & 0x7fff) == 0) continue;
    const long double next = value_of(T{static_cast<uint16_t>(bits - 1)});
    const auto half_way = static_cast<float>((expected + next) / 2);
    for (const float near : {half_way, std::nextafter(half_way, 0.0f), std::nextafter(half_way, INFINITY * half_way)}) {
      CHECK_MESSAGE(same(from_float<T>(near), nearest<T>(near)), near);
    }
  }
  CHECK(std::isinf(value_of(from_float<T>(std::numeric_limits<float>::max()))));
  CHECK(std::isnan(value_of(from_float<T>(NAN))));
}

template <class T>
void check_arithmetic() {
  std::mt19937 random(7);
  for (int i = 0; i < 200'000; ++i) {
    // Exponents close to each other, so that sums cancel and round; every eighth time any bits at all.
    const auto number = [&] {
      if (i % 8 == 0) return T{static_cast<uint16_t>(random())};
      return from_float<T>(std::ldexp(static_cast<float>(random()) * 0x1p-31f - 1, static_cast<int>(random() % 8)));
    };
    const T a = number(), b = number(), c = number();
    const long double x = value_of(a), y = value_of(b), z = value_of(c);
    CHECK_MESSAGE(same(add2(both(a), both(b)).x, nearest<T>(x + y)), "add " << a.bits << " " << b.bits);
    CHECK_MESSAGE(same(sub2(both(a), both(b)).y, nearest<T>(x - y)), "sub " << a.bits << " " << b.bits);
    CHECK_MESSAGE(same(mul2(both(a), both(b)).x, nearest<T>(x * y)), "mul " << a.bits << " " << b.bits);
    // Exact in 64 bits of mantissa when the exponents are close.
    if (i % 8 == 0) continue;
    CHECK_MESSAGE(same(fma2(both(a), both(b), both(c)).x, nearest<T>(x * y + z)),
                  "fma " << a.bits << " " << b.bits << " " << c.bits);
  }
}

}  // namespace

TEST(emulator_numbers_convert_halves) { check_conversions<half>(); }
TEST(emulator_numbers_convert_bfloat16s) { check_conversions<bfloat16>(); }
TEST(emulator_numbers_compute_with_halves) { check_arithmetic<half>(); }
TEST(emulator_numbers_compute_with_bfloat16s) { check_arithmetic<bfloat16>(); }

TEST(emulator_numbers_fuse_with_one_rounding) {
  // 1 + 2^-10 is the half after 1. Its square is 1 + 2^-9 + 2^-20: just above a half, so 2^-20 remains.
  const half x = from_float<half>(1 + 0x1p-10f), square = from_float<half>(-(1 + 0x1p-9f));
  CHECK(to_float(fma2(both(x), both(x), both(square)).x) == 0x1p-20f);
  // 2048 + 1 + 2^-24 lies just above the middle of 2048 and 2050: double rounding would fall back to 2048.
  const half big = from_float<half>(2048), tiny = from_float<half>(0x1p-24f), one_and = from_float<half>(1);
  CHECK(to_float(fma2(both(big), both(one_and), both(one_and)).x) == 2048);
  CHECK(to_float(fma2(both(tiny), both(tiny), both(big)).x) == 2048);
  const half odd = from_float<half>(2050);  // 1.0009765625 * 2048 + 2^-24 > 2050
  CHECK(to_float(fma2(both(big), both(x), both(tiny)).x) == to_float(odd));
}

TEST(emulator_numbers_permute_bits) {
  CHECK((lop3<0xea>(0xff00ff00u, 0x0ff00ff0u, 1u) == ((0xff00ff00u & 0x0ff00ff0u) | 1u)));
  CHECK((lop3<0x96>(0x12345678u, 0x9abcdef0u, 0x0f0f0f0fu) == (0x12345678u ^ 0x9abcdef0u ^ 0x0f0f0f0fu)));
  CHECK(byte_permute(0x03020100u, 0x07060504u, 0x7531) == 0x07050301u);
  CHECK(byte_permute(0x80000012u, 0, 0xb8b8) == 0xff00ff00u);
  CHECK(funnel_shift_left(0x80000001u, 0x00000001u, 1) == 3);
  CHECK(funnel_shift_right(0x80000001u, 0x00000003u, 1) == 0xc0000000u);
  CHECK(find_first_set(0) == 0);
  CHECK(find_first_set(8) == 4);
}
