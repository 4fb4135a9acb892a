// The GEMV of quantized linears by products of 16-bit integers, over Integers of any width, straight from memory.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace quantized {

// Activations are taken as they are for a GEMM.
constexpr void (*arrange_for_gemv)(int16_t* codes, int64_t count) = nullptr;

// Two sums per row: one for each part of the tile or, if there is only one part, two independent chains that hide each
// other's latency. sums[2 * row + i].
template <Codes kind, int Pair, int... Row>
inline void add_pair(std::integer_sequence<int, Row...>, const uint8_t* eight, const int16_t* x, int64_t row_stride,
                     Integers::Value* totals) {
  const Integers::Value first = load_pair<kind, Pair>(eight);
  const Integers::Value second = parts == 2 ? load_pair<kind, Pair>(eight + part_bytes) : first;
  const auto add = [&](int64_t row, Integers::Value& even, Integers::Value& odd) {
    const Integers::Value pair = broadcast_pair(x + row * row_stride + 2 * Pair);
    if constexpr (parts == 2) {
      even = Integers::add_products(even, first, pair);
      odd = Integers::add_products(odd, second, pair);
      Integers::keep_in_register(even);
      Integers::keep_in_register(odd);
    } else {
      Integers::Value& total = Pair % 2 == 0 ? even : odd;
      total = Integers::add_products(total, first, pair);
      Integers::keep_in_register(total);
    }
  };
  (add(Row, totals[2 * Row], totals[2 * Row + 1]), ...);
}

template <Codes kind, int... Row, int... I>
void gemv_rows(std::integer_sequence<int, Row...> rows_of, std::integer_sequence<int, I...>,
               const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  constexpr int rows = sizeof...(Row);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    Vector::Value sums[rows][parts];
    for (int r = 0; r < rows; ++r) {
      for (int part = 0; part < parts; ++part) sums[r][part] = Vector::zero();
    }

    for_each_segment(weights.in, weights.group_size, [&](int64_t segment, int64_t group, int64_t first, int64_t count) {
      const int64_t padded = (count + 7) / 8 * 8;
      const int16_t* const x_codes = x.codes + first * x.rows + first_row * padded;
      const uint8_t* codes = tile_codes(weights, tile, first);
      Integers::Value totals[2 * rows];
      ((totals[I] = Integers::zero()), ...);
      for (int64_t k = 0; k < padded; k += 8, codes += eight_bytes<kind>) {
        fetch_weights(codes, eight_bytes<kind>);
        add_pair<kind, 0>(rows_of, codes, x_codes + k, padded, totals);
        add_pair<kind, 1>(rows_of, codes, x_codes + k, padded, totals);
        add_pair<kind, 2>(rows_of, codes, x_codes + k, padded, totals);
        add_pair<kind, 3>(rows_of, codes, x_codes + k, padded, totals);
      }
      for (int part = 0; part < parts; ++part) {
        const Vector::Value scales = load_scales(weights, tile, part, group);
        const Integers::Value zeros = load_zeros(weights, tile, part, group);
        for (int r = 0; r < rows; ++r) {
          const Integers::Value total =
              parts == 2 ? totals[2 * r + part] : Integers::add(totals[2 * r], totals[2 * r + 1]);
          sums[r][part] = add_segment(sums[r][part], total, scales, zeros, x, segment * x.rows + first_row + r);
        }
      }
    });

    for (int part = 0; part < parts; ++part) {
      store_part(weights, tile, part, rows, out, stride, [&](int r) { return sums[r][part]; });
    }
  }
}

template <Codes kind, int Rows>
void gemv_of(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride) {
  gemv_rows<kind>(std::make_integer_sequence<int, Rows>{}, std::make_integer_sequence<int, 2 * Rows>{}, weights, x,
                  first_row, first_tile, last_tile, out, stride);
}

}  // namespace quantized
}  // namespace
}  // namespace billfish::cpu
