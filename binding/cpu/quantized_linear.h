// The packed layout of a quantized linear. It follows the instruction that reads it: 16 outputs are the 16 lanes of a
// 64-byte vector, and a lane holds consecutive inputs of its output.
//
//   codes, 4 bits   [tile of 16 outputs][eight inputs][64 bytes]: byte 4 n + j = code(k+4+j) << 4 | code(k+j)
//
//                   32-bit lane, bit  31   28   24   20   16   12    8    4    0
//                                       c7   c3   c6   c2 | c5   c1   c4   c0
//
//                   e2m1 floats lie here too; kernels look up the integers that stand for them
//
//   codes, 8 bits   [tile][four inputs][64 bytes]: byte 4 n + j = code(k+j)
//
//                   32-bit lane, bit  31        24        16         8         0
//                                       c3        c2      | c1         c0
//
//   codes, floats   [tile][two inputs][32 bytes]: byte 2 n + j = code(k+j). Conversion takes a float of 8 bits by its
//   of 8 bits       place under a 16-bit one, so a vector of 16-bit lanes gives the 16 outputs of either input.
//
//   scales          [tile][group][16] of the checkpoint's type
//   zeros           [tile][group][16] bytes; absent when the zero point is 2^(bits-1)
//   output scales   [outputs rounded up to 16] floats; absent where all are 1
//   bias            [outputs rounded up to 16] floats; absent without bias
//   order           [inputs] int32; present whenever the checkpoint stores an order, so that the block's size follows
//                   from what the checkpoint holds, and unused where that order is the natural one
//
// Each of the sections starts at a multiple of 64 bytes. Outputs are padded to a multiple of 16 with zero scales,
// inputs to a multiple of 8 with codes that meet zero activations.
//
// Masking a vector with 0x000f000f, after a shift right by 0, 4, 8 or 12 bits, leaves the pairs of inputs (0,2), (4,6),
// (1,3), (5,7) in the 16-bit halves of every lane; for 8-bit codes 0x00ff00ff and shifts by 0 or 8 do, over two
// vectors. That is the operand of a 16-bit dot product (vpdpwssd, vpmaddwd), so quantized activations are stored in the
// order 0 2 4 6 1 3 5 7 within eight, whatever the bits.
#pragma once
#include <cstdint>

#include "cpu/kernels.h"
#include "cpu/linear.h"

namespace billfish::cpu {

// Code of output n and input k, read back from the packed layout: for the scalar kernels and the tests. Of e2m1 codes,
// the integers that stand for them, with their zero point and scale.
int packed_code(const QuantizedLinear& weights, int64_t n, int64_t k);
int packed_zero(const QuantizedLinear& weights, int64_t n, int64_t group);
float packed_scale(const QuantizedLinear& weights, int64_t n, int64_t group);

}  // namespace billfish::cpu
