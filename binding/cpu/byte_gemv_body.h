// The GEMV of quantized linears by products of bytes, four a lane, over Integers of 16 lanes, straight from memory.
// Codes are bytes of no sign; an activation's 16-bit integer is 256 * high + low, both bytes with a sign, so that
//
//   sum of code * x = 256 * sum of code * high + sum of code * low
//
// exactly. That is as many products as of 16-bit integers, and codes need only be told apart into bytes.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace quantized {

static_assert(parts == 1);

// Eight activations, 16 bytes:  high 0 .. 7 | low 0 .. 7.
void arrange_for_gemv(int16_t* codes, int64_t count) {
  for (int64_t k = 0; k < count; k += 8) Integers::split_eight(codes + k);
}

// Inputs 4 * Half .. 4 * Half + 3 of eight: four bytes in each lane.
template <Codes kind, int Half>
inline Integers::Value load_bytes(const uint8_t* eight) {
  if constexpr (kind == Codes::int8) return Integers::load(eight + Half * 64);
  const Integers::Value nibbles =
      Integers::bit_and(Integers::shift_right_16<4 * Half>(Integers::load(eight)), Integers::broadcast(0x0f0f0f0f));
  return kind == Codes::e2m1 ? Integers::look_up(e2m1_integers, nibbles) : nibbles;
}

// Four activations in every lane.
inline Integers::Value broadcast_four(const int8_t* bytes) {
  return Integers::broadcast(*reinterpret_cast<const int32_t __attribute__((may_alias))*>(bytes));
}

// Sums of high and of low bytes for every row, and twice as many for one row, whose two chains of each would be too few
// to hide the latency of a product.
constexpr int chains_of(int rows) { return rows == 1 ? 4 : 2; }

// sums[Chains * row + chain]; the last two chains of a row are those of high and low, and so are the first two of four.
template <Codes kind, int Chains, int Half, int... Row>
inline void add_four(std::integer_sequence<int, Row...>, const uint8_t* eight, const int8_t* x, int64_t row_stride,
                     Integers::Value* sums) {
  const Integers::Value bytes = load_bytes<kind, Half>(eight);
  constexpr int high = 2 * Half % Chains, low = high + 1;
  ((sums[Row * Chains + high] =
        Integers::add_byte_products(sums[Row * Chains + high], bytes, broadcast_four(x + Row * row_stride + 4 * Half))),
   ...);
  ((sums[Row * Chains + low] = Integers::add_byte_products(sums[Row * Chains + low], bytes,
                                                           broadcast_four(x + Row * row_stride + 8 + 4 * Half))),
   ...);
}

// The sums of a row together: the high ones count 256 times.
template <int Chains>
inline Integers::Value total_of(const Integers::Value* sums) {
  Integers::Value high = sums[0], low = sums[1];
  if constexpr (Chains == 4) {
    high = Integers::add(high, sums[2]);
    low = Integers::add(low, sums[3]);
  }
  return Integers::add(Integers::shift_left_32<8>(high), low);
}

template <Codes kind, int Chains, int... Row, int... I>
void gemv_rows(std::integer_sequence<int, Row...> rows_of, std::integer_sequence<int, I...>,
               const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    Vector::Value totals[sizeof...(Row)];
    ((totals[Row] = Vector::zero()), ...);

    for_each_segment(weights.in, weights.group_size, [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
      const int64_t padded = (count + 7) / 8 * 8, row_bytes = 2 * padded;
      const int8_t* const bytes = reinterpret_cast<const int8_t*>(x.codes + first * x.rows + first_row * padded);
      const uint8_t* codes = tile_codes(weights, tile, first);
      Integers::Value sums[sizeof...(I)];
      ((sums[I] = Integers::zero()), ...);
      for (int64_t k = 0; k < padded; k += 8, codes += eight_bytes<kind>) {
        fetch_weights(codes, eight_bytes<kind>);
        add_four<kind, Chains, 0>(rows_of, codes, bytes + 2 * k, row_bytes, sums);
        add_four<kind, Chains, 1>(rows_of, codes, bytes + 2 * k, row_bytes, sums);
        (Integers::keep_in_register(sums[I]), ...);
      }
      const Vector::Value scales = load_scales(weights, tile, 0, group);
      const Integers::Value zeros = load_zeros(weights, tile, 0, group);
      ((totals[Row] = add_segment(totals[Row], total_of<Chains>(sums + Row * Chains), scales, zeros, x,
                                  segment * x.rows + first_row + Row)),
       ...);
    });
    store_part(weights, tile, 0, sizeof...(Row), out, stride, [&](int r) { return totals[r]; });
  }
}

template <Codes kind, int Rows>
void gemv_of(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride) {
  gemv_rows<kind, chains_of(Rows)>(std::make_integer_sequence<int, Rows>{},
                                   std::make_integer_sequence<int, Rows * chains_of(Rows)>{}, weights, x, first_row,
                                   first_tile, last_tile, out, stride);
}

}  // namespace quantized
}  // namespace
}  // namespace billfish::cpu
