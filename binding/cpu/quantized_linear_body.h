// Quantized linears over Integers and Vector of any width. Each SIMD kernels_*.cc includes it after these types, and
// after it the GEMV of few rows: pair_gemv_body.h or byte_gemv_body.h.
//
// Products of 16-bit integers are added pairwise into 32-bit lanes. A lane is an output, so the 16 outputs of a tile
// are one vector or two (`parts`): the first part of what is at byte 64 * i of a tile's codes is there, the second
// `part_bytes` later.
//
// Sums are arrays indexed by constants only, through fold expressions over `I`, and keep_in_register() pins each
// between steps: otherwise GCC spills all of them at every step, at a third of the speed.
#pragma once
#include <cstdint>
#include <utility>

#include "cpu/linear_activation.h"
#include "cpu/quantized_linear.h"

namespace billfish::cpu {
namespace {
namespace quantized {

constexpr int parts = tile_outputs / Integers::width;
constexpr int64_t part_bytes = Integers::width * 4;
static_assert(parts == 1 || parts == 2);

// How a tile's codes lie and what they stand for.
enum class Codes { int4, int8, e2m1 };

template <Codes codes>
constexpr int64_t eight_bytes = 8 * tile_outputs*(codes == Codes::int8 ? 8 : 4) / 8;

inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// The kernel of the weights' codes.
template <class Kernel>
Kernel* choose(const QuantizedLinear& weights, Kernel* int4, Kernel* int8, Kernel* e2m1) {
  if (weights.type == CodeType::e2m1) return e2m1;
  return weights.bits == 4 ? int4 : int8;
}

// --- What a QuantizedLinear holds, for `part` of a tile.

inline const uint8_t* tile_codes(const QuantizedLinear& weights, int64_t tile, int64_t first) {
  return weights.codes + (tile * weights.padded_in + first) * tile_outputs * weights.bits / 8;
}

inline Vector::Value load_scales(const QuantizedLinear& weights, int64_t tile, int part, int64_t group) {
  const int64_t entry = (tile * weights.groups + group) * tile_outputs + part * Integers::width;
  if (weights.type == CodeType::e2m1) {  // in bytes; half of those of the numbers, for the integers in their place
    const uint8_t* const bytes = static_cast<const uint8_t*>(weights.scales) + entry;
    return weights.scale_type == DType::f8_e4m3
               ? Vector::multiply(Vector::load_e4m3(bytes), Vector::broadcast(256.0f * 0.5f))
               : Vector::multiply(Vector::load_e8m0(bytes), Vector::broadcast(0.5f));
  }
  if (weights.scale_type == DType::f32) return Vector::load(static_cast<const float*>(weights.scales) + entry);
  const uint16_t* const halves = static_cast<const uint16_t*>(weights.scales) + entry;
  return weights.scale_type == DType::f16 ? Vector::load_f16(halves) : Vector::load_bf16(halves);
}

inline Integers::Value load_zeros(const QuantizedLinear& weights, int64_t tile, int part, int64_t group) {
  if (weights.type == CodeType::e2m1) return Integers::broadcast(e2m1_zero);
  if (weights.zeros == nullptr) return Integers::broadcast(1 << (weights.bits - 1));
  return Integers::load_bytes(weights.zeros + (tile * weights.groups + group) * tile_outputs + part * Integers::width);
}

// Pair 0 to 3 of the codes of eight inputs: two inputs, as 16-bit integers, in each lane.
template <Codes kind, int Pair>
inline Integers::Value load_pair(const uint8_t* eight) {
  if constexpr (kind == Codes::e2m1) {
    // Looked up as bytes, which are then those of 8 bits: inputs 0 to 3 come from the low nibbles, 4 to 7 from the high
    // ones.
    const Integers::Value nibbles = Integers::bit_and(Integers::shift_right_16<Pair % 2 * 4>(Integers::load(eight)),
                                                      Integers::broadcast(0x0f0f0f0f));
    const Integers::Value four = Integers::look_up(e2m1_integers, nibbles);
    return Pair < 2 ? Integers::bit_and(four, Integers::broadcast(0x00ff00ff)) : Integers::shift_right_16<8>(four);
  } else if constexpr (kind == Codes::int4) {
    const Integers::Value shifted = Integers::shift_right_16<4 * Pair>(Integers::load(eight));
    return Pair == 3 ? shifted : Integers::bit_and(shifted, Integers::broadcast(0x000f000f));
  } else {
    const Integers::Value four = Integers::load(eight + Pair % 2 * 64);
    return Pair < 2 ? Integers::bit_and(four, Integers::broadcast(0x00ff00ff)) : Integers::shift_right_16<8>(four);
  }
}

// Code of input 0 to 7 of eight, in every lane.
template <Codes kind, int Input>
inline Integers::Value load_code(const uint8_t* eight) {
  constexpr bool is_byte = kind == Codes::int8;
  constexpr int four = is_byte ? Input / 4 : 0;
  constexpr int shift = is_byte ? Input % 4 * 8 : Input % 4 * 8 + Input / 4 * 4;
  const Integers::Value code = Integers::bit_and(Integers::shift_right_32<shift>(Integers::load(eight + four * 64)),
                                                 Integers::broadcast(is_byte ? 0xff : 0xf));
  if constexpr (kind != Codes::e2m1) return code;
  return Integers::bit_and(Integers::look_up(e2m1_integers, code), Integers::broadcast(0xff));
}

// Two activations in every lane.
inline Integers::Value broadcast_pair(const int16_t* codes) {
  return Integers::broadcast(*reinterpret_cast<const int32_t __attribute__((may_alias))*>(codes));
}

// --- What both GEMVs do with the sums of a tile.

// Adds a segment's total of integer products to the floats of a row: `entry` is the segment's for the row.
inline Vector::Value add_segment(Vector::Value sum, Integers::Value total, Vector::Value scales, Integers::Value zeros,
                                 const QuantizedActivations& x, int64_t entry) {
  const Integers::Value correction = Integers::multiply(zeros, Integers::broadcast(x.sums[entry]));
  return Vector::multiply_add(Integers::to_floats(Integers::subtract(total, correction)),
                              Vector::multiply(scales, Vector::broadcast(x.scales[entry])), sum);
}

// Writes the outputs of part `part` of a tile for all rows: sum_of(row).
template <class SumOf>
inline void store_part(const QuantizedLinear& weights, int64_t tile, int part, int rows, float* out, int64_t stride,
                       SumOf sum_of) {
  const int64_t first_output = tile * tile_outputs + part * Integers::width;
  const int64_t outputs = smaller(Integers::width, weights.out - first_output);
  if (outputs <= 0) return;
  const Vector::Value bias = weights.bias != nullptr ? Vector::load(weights.bias + first_output) : Vector::zero();
  const Vector::Value scales =
      weights.output_scales != nullptr ? Vector::load(weights.output_scales + first_output) : Vector::broadcast(1.0f);
  for (int r = 0; r < rows; ++r) {
    Vector::store(out + r * stride + first_output, Vector::multiply_add(sum_of(r), scales, bias), outputs);
  }
}

// --- Few rows: the GEMV by the number of rows.

// As QuantizedLinearKernels::gemv, for `Rows` rows: in pair_gemv_body.h or byte_gemv_body.h.
template <Codes kind, int Rows>
void gemv_of(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int64_t first_tile,
             int64_t last_tile, float* out, int64_t stride);

template <Codes kind>
void gemv_codes(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int rows,
                int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  static_assert(max_gemv_rows == 4);
  const auto run = rows == 1   ? gemv_of<kind, 1>
                   : rows == 2 ? gemv_of<kind, 2>
                   : rows == 3 ? gemv_of<kind, 3>
                               : gemv_of<kind, 4>;
  run(weights, x, first_row, first_tile, last_tile, out, stride);
}

void gemv(const QuantizedLinear& weights, const QuantizedActivations& x, int64_t first_row, int rows,
          int64_t first_tile, int64_t last_tile, float* out, int64_t stride) {
  const auto run = choose(weights, gemv_codes<Codes::int4>, gemv_codes<Codes::int8>, gemv_codes<Codes::e2m1>);
  run(weights, x, first_row, rows, first_tile, last_tile, out, stride);
}

// --- Many rows: a panel of weights at a time.

// Calls visit(tile, part) for all of a panel.
template <class Visit>
void for_each_part(const QuantizedLinear& weights, int64_t first_tile, Visit visit) {
  const int64_t tiles = smaller(panel_tiles, (weights.out + tile_outputs - 1) / tile_outputs - first_tile);
  for (int64_t tile = 0; tile < tiles; ++tile) {
    for (int part = 0; part < parts; ++part) visit(tile, part);
  }
}

template <Codes kind>
void unpack_codes(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  const int64_t group = first / weights.group_size;
  const int64_t ahead = count / 8 * eight_bytes<kind>;
  for_each_part(weights, first_tile, [&](int64_t tile, int part) {
    const Integers::Value zeros = load_zeros(weights, first_tile + tile, part, group);
    const Integers::Value zero_pairs = Integers::bit_or(zeros, Integers::shift_left_32<16>(zeros));
    const uint8_t* codes = tile_codes(weights, first_tile + tile, first) + part * part_bytes;
    int16_t* to = panel + (tile * tile_outputs + part * Integers::width) * 2;
    const auto store = [&](Integers::Value pair) {
      Integers::store(to, Integers::subtract_16(pair, zero_pairs));
      to += panel_outputs * 2;
    };
    for (int64_t k = 0; k < count; k += 8, codes += eight_bytes<kind>) {
      // Prefetches the codes of the next call while this panel is multiplied.
      for (int64_t line = 0; part == 0 && line < eight_bytes<kind>; line += 64) {
        __builtin_prefetch(codes + ahead + line);
      }
      store(load_pair<kind, 0>(codes));
      store(load_pair<kind, 1>(codes));
      store(load_pair<kind, 2>(codes));
      store(load_pair<kind, 3>(codes));
    }
  });
}

void unpack_integers(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, int16_t* panel) {
  const auto run = choose(weights, unpack_codes<Codes::int4>, unpack_codes<Codes::int8>, unpack_codes<Codes::e2m1>);
  run(weights, first_tile, first, count, panel);
}

void unpack_scales(const QuantizedLinear& weights, int64_t first_tile, int64_t group, float* scales) {
  for_each_part(weights, first_tile, [&](int64_t tile, int part) {
    Vector::store(scales + tile * tile_outputs + part * Integers::width,
                  load_scales(weights, first_tile + tile, part, group));
  });
}

// A tile of rows x gemm_vectors sums, a vector of weights and a broadcast pair stay in the registers. vpmaddwd's
// products need some too: with sixteen registers, floats allow six rows, integers four.
constexpr int vectors = Vector::gemm_vectors;
constexpr int micro_rows = parts == 2 ? 4 : 6;

// I counts the sums: I / vectors is the row, I % vectors the vector.
template <int... I>
void multiply_rows(std::integer_sequence<int, I...>, const int16_t* panel, const float* scales, int64_t count,
                   const int16_t* codes, const float* x_scales, float* sums) {
  Integers::Value totals[sizeof...(I)];
  ((totals[I] = Integers::zero()), ...);
  for (int64_t k = 0; k < count; k += 2, panel += panel_outputs * 2) {
    ((totals[I] = Integers::add_products(totals[I], Integers::load(panel + I % vectors * Integers::width * 2),
                                         broadcast_pair(codes + I / vectors * count + k))),
     ...);
    (Integers::keep_in_register(totals[I]), ...);
  }
  const auto add = [](float* sum, Integers::Value total, const float* scale, float x_scale) {
    const Vector::Value factor = Vector::multiply(Vector::load(scale), Vector::broadcast(x_scale));
    Vector::store(sum, Vector::multiply_add(Integers::to_floats(total), factor, Vector::load(sum)));
  };
  (add(sums + I / vectors * panel_outputs + I % vectors * Integers::width, totals[I],
       scales + I % vectors * Integers::width, x_scales[I / vectors]),
   ...);
}

template <int Rows>
void multiply_rows(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                   const float* x_scales, float* sums) {
  multiply_rows(std::make_integer_sequence<int, Rows * vectors>{}, panel, scales, count, codes, x_scales, sums);
}

using MultiplyRows = void (*)(const int16_t*, const float*, int64_t, const int16_t*, const float*, float*);

template <int... Rows>
constexpr MultiplyRows multiply_rows_of(std::integer_sequence<int, Rows...>, int64_t rows) {
  constexpr MultiplyRows of[] = {multiply_rows<Rows + 1>...};
  return of[rows - 1];
}

void multiply_integers(const int16_t* panel, const float* scales, int64_t count, const int16_t* codes,
                       const float* x_scales, int64_t rows, float* sums) {
  for (int64_t n = 0; n < panel_outputs; n += vectors * Integers::width) {
    for (int64_t row = 0; row < rows; row += micro_rows) {
      const auto run = multiply_rows_of(std::make_integer_sequence<int, micro_rows>{}, smaller(micro_rows, rows - row));
      run(panel + n * 2, scales + n, count, codes + row * count, x_scales + row, sums + row * panel_outputs + n);
    }
  }
}

template <Codes kind>
void dequantize_codes(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const int64_t group = first / weights.group_size;
  for_each_part(weights, first_tile, [&](int64_t tile, int part) {
    const Integers::Value zeros = load_zeros(weights, first_tile + tile, part, group);
    const Vector::Value scales = load_scales(weights, first_tile + tile, part, group);
    const uint8_t* codes = tile_codes(weights, first_tile + tile, first) + part * part_bytes;
    float* to = panel + tile * tile_outputs + part * Integers::width;
    const auto store = [&](Integers::Value code) {
      Vector::store(to, Vector::multiply(Integers::to_floats(Integers::subtract(code, zeros)), scales));
      to += panel_outputs;
    };
    for (int64_t k = 0; k < count; k += 8, codes += eight_bytes<kind>) {
      store(load_code<kind, 0>(codes));
      store(load_code<kind, 1>(codes));
      store(load_code<kind, 2>(codes));
      store(load_code<kind, 3>(codes));
      store(load_code<kind, 4>(codes));
      store(load_code<kind, 5>(codes));
      store(load_code<kind, 6>(codes));
      store(load_code<kind, 7>(codes));
    }
  });
}

void dequantize(const QuantizedLinear& weights, int64_t first_tile, int64_t first, int64_t count, float* panel) {
  const auto run =
      choose(weights, dequantize_codes<Codes::int4>, dequantize_codes<Codes::int8>, dequantize_codes<Codes::e2m1>);
  run(weights, first_tile, first, count, panel);
}

}  // namespace quantized
}  // namespace
}  // namespace billfish::cpu
