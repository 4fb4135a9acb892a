// Quantized linears whose codes are floats, over Vector of any width. Each SIMD kernels_*.cc includes it after
// quantized_linear_body.h.
//
// Vector::load_e4m3 gives the numbers of two inputs for the 16 outputs of a tile, times 2^-8; scales are multiplied by
// 2^8 instead. The activation of an input is in all lanes.
//
// Sums are arrays indexed by constants only, as in the files included before.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace float_code {

using Value = Vector::Value;
using quantized::parts, quantized::smaller;

// Of a tile's codes: an input, on average.
constexpr int64_t input_bytes = tile_outputs;

inline Value load_scales(const QuantizedLinear& weights, int64_t tile, int part, int64_t group) {
  return Vector::multiply(quantized::load_scales(weights, tile, part, group), Vector::broadcast(256.0f));
}

// Independent sums for every output: enough to hide the latency of the multiply-add in up to eight vectors.
constexpr int chains_of(int rows) { return rows == 1 ? 8 / parts : rows == 2 ? 4 / parts : 2 / parts; }

// Adds the products of two inputs: I / parts is the row, I % parts the part of the tile. sums[chain * rows * parts +
// I].
template <int First, int Second, int... I>
inline void add_pair(std::integer_sequence<int, I...>, const uint8_t* codes, const float* x, int64_t row_stride,
                     Value* sums) {
  constexpr int count = sizeof...(I);
  Value first[parts], second[parts];
  Vector::load_e4m3(codes, first, second);
  ((sums[First * count + I] =
        Vector::multiply_add(Vector::broadcast(x[I / parts * row_stride]), first[I % parts], sums[First * count + I])),
   ...);
  ((sums[Second * count + I] = Vector::multiply_add(Vector::broadcast(x[I / parts * row_stride + 1]), second[I % parts],
                                                    sums[Second * count + I])),
   ...);
}

template <int Rows, int... I, int... S>
void gemv_rows(std::integer_sequence<int, I...> row_parts, std::integer_sequence<int, S...>,
               const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
               int64_t last_tile, float* out, int64_t stride) {
  constexpr int count = sizeof...(I), chains = chains_of(Rows);
  static_assert(sizeof...(S) == chains * count);
  for (int64_t tile = first_tile; tile < last_tile; ++tile) {
    Value totals[count];
    ((totals[I] = Vector::zero()), ...);

    for_each_segment(weights.in, weights.group_size, [&](int64_t, int64_t group, int64_t first, int64_t inputs) {
      const float* const segment = x + first * x_rows + first_row * inputs;
      const uint8_t* codes = weights.codes + (tile * weights.padded_in + first) * input_bytes;
      Value sums[chains * count];
      ((sums[S] = Vector::zero()), ...);
      int64_t k = 0;
      for (; k + 8 <= inputs; k += 8, codes += 8 * input_bytes) {
        fetch_weights(codes, 8 * input_bytes);
        add_pair<0, 1 % chains>(row_parts, codes, segment + k, inputs, sums);
        add_pair<2 % chains, 3 % chains>(row_parts, codes + 2 * input_bytes, segment + k + 2, inputs, sums);
        add_pair<4 % chains, 5 % chains>(row_parts, codes + 4 * input_bytes, segment + k + 4, inputs, sums);
        add_pair<6 % chains, 7 % chains>(row_parts, codes + 6 * input_bytes, segment + k + 6, inputs, sums);
        (Vector::keep_in_register(sums[S]), ...);
      }
      for (; k < inputs; ++k) {
        Value both[2][parts];
        Vector::load_e4m3(codes + k % 8 / 2 * 2 * input_bytes, both[0], both[1]);
        ((sums[I] = Vector::multiply_add(Vector::broadcast(segment[I / parts * inputs + k]), both[k % 2][I % parts],
                                         sums[I])),
         ...);
      }
      for (int chain = 1; chain < chains; ++chain) {
        ((sums[I] = Vector::add(sums[I], sums[chain * count + I])), ...);
      }
      Value scales[parts];
      for (int part = 0; part < parts; ++part) scales[part] = load_scales(weights, tile, part, group);
      ((totals[I] = Vector::multiply_add(sums[I], scales[I % parts], totals[I])), ...);
    });

    for (int part = 0; part < parts; ++part) {
      const int64_t first_output = tile * tile_outputs + part * Vector::width;
      const int64_t outputs = smaller(Vector::width, weights.out - first_output);
      if (outputs <= 0) break;
      const Value bias = weights.bias != nullptr ? Vector::load(weights.bias + first_output) : Vector::zero();
      for (int r = 0; r < Rows; ++r) {
        Vector::store(out + r * stride + first_output, Vector::add(totals[r * parts + part], bias), outputs);
      }
    }
  }
}

template <int Rows>
void gemv_of(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride) {
  constexpr int count = Rows * parts;
  gemv_rows<Rows>(std::make_integer_sequence<int, count>{}, std::make_integer_sequence<int, chains_of(Rows) * count>{},
                  weights, x, x_rows, first_row, first_tile, last_tile, out, stride);
}

void gemv(const QuantizedLinear& weights, const float* x, int64_t x_rows, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  static_assert(max_gemv_rows == 4);
  const auto run = rows == 1 ? gemv_of<1> : rows == 2 ? gemv_of<2> : rows == 3 ? gemv_of<3> : gemv_of<4>;
  run(weights, x, x_rows, first_row, first_tile, last_tile, out, stride);
}

void dequantize(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const int64_t group = first / weights.group_size;
  const int64_t tiles = smaller(panel_tiles, (weights.out + tile_outputs - 1) / tile_outputs - first_tile);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    Value scales[parts];
    for (int part = 0; part < parts; ++part) scales[part] = load_scales(weights, first_tile + tile, part, group);
    const uint8_t* codes = weights.codes + ((first_tile + tile) * weights.padded_in + first) * input_bytes;
    float* to = panel + tile * tile_outputs;
    // Writes multiples of eight inputs, as codes are padded; prefetches the codes of the next call.
    for (int64_t k = 0; k < count; k += 2, codes += 2 * input_bytes, to += 2 * panel_outputs) {
      __builtin_prefetch(codes + count * input_bytes);
      Value even[parts], odd[parts];
      Vector::load_e4m3(codes, even, odd);
      for (int part = 0; part < parts; ++part) {
        Vector::store(to + part * Vector::width, Vector::multiply(even[part], scales[part]));
        Vector::store(to + panel_outputs + part * Vector::width, Vector::multiply(odd[part], scales[part]));
      }
    }
  }
}

}  // namespace float_code
}  // namespace
}  // namespace billfish::cpu
