// y = W x in fp64 for weights as checkpoints store them: what the verification of padded copies computes with. It
// shares nothing with the readers of the engine (binding/checkpoint), whose mistakes it would repeat.
//
// A weight is decoded exactly: fp64 holds every fp16, bf16 and fp32 number, and a scale times (code - zero point).
// Every output is summed in an order that depends on nothing but the number of the input, and no multiplication is
// fused with an addition. So zeros between the inputs or behind them change no bit of it, on any instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

namespace billfish::padding {

enum class FloatType { f32, f16, bf16 };

// Inputs and how their sum goes: the first `leading` ones one after another, input k behind them into sum
// (k - leading) mod 16; at the end these sums are added up from the first to the last. Zeros among the leading ones,
// and behind all others, change nothing.
struct Inputs {
  const double* x;
  size_t count;
  size_t leading;
};

// How codes of `bits` bits become weights: scale * (code - zero point).
struct Grid {
  const float* scales;   // [groups, outputs] for columns, [outputs, groups] for rows
  const uint8_t* zeros;  // the same
  size_t groups;
  const int32_t* group_of;  // of every input, below `groups`
};

struct ProductKernels {
  // y[r] = the product of x and row r of `rows` rows: [outputs, inputs] of a floating-point type.
  void (*multiply_floats)(const void* values, FloatType type, size_t rows, const Inputs& inputs, double* y);

  // The same of codes as compressed-tensors packs them: word k / P of a row has input k in bits (k mod P) * bits
  // upwards, P = 32 / bits.
  void (*multiply_rows)(const uint32_t* words, int bits, size_t rows, const Grid& grid, const Inputs& inputs,
                        double* y);

  // y[n] += the sum of the inputs from the first to the last, for codes as GPTQ packs them, [inputs / P, outputs]: a
  // word has P neighboring inputs of its output. `group_of` is that of the first input here.
  void (*add_gptq)(const uint32_t* words, int bits, size_t word_rows, size_t outputs, const Grid& grid, const double* x,
                   double* y);

  // The same for codes as AWQ packs them, [inputs, outputs / 8]: a word has 8 outputs of its input. y, scales and zero
  // points are not in the order of outputs but of places: [8 places in a word, words of a row].
  void (*add_awq)(const uint32_t* words, size_t inputs, size_t outputs, const Grid& grid, const double* x, double* y);
};

// Those of the instruction set in use.
const ProductKernels& product_kernels();

extern const ProductKernels product_kernels_avx2;

}  // namespace billfish::padding
