// The packed layout of a quantized linear: what a thread of the GEMM needs next is 16 contiguous bytes.
//
// Tensor cores multiply 16 outputs by 16 inputs of the weight (the A operand of mma.m16n8k16) with 16 inputs of 8
// tokens (the B operand). Lane 4 g + t of a warp holds eight weights of such a 16x16 tile, in four registers:
//
//            inputs 2t, 2t+1   inputs 2t+8, 2t+9
//   output g        a[0]             a[2]
//   output g+8      a[1]             a[3]             (low half: the lower input)
//
// A strip is 64 outputs: four such tiles. Its codes are stored in the order of k, one k-block of 16 inputs after
// another, and within a k-block by lane, so that a warp reads a k-block as 32 times 16 bytes:
//
//   4 bits   [strip][k-block][lane][tile 0..3]            one word per tile, 512 bytes per k-block
//
//            bit  31  28  24  20  16  12   8   4   0      word & 0x000f000f is the pair of codes of a[0], one in each
//                 a3  a2  a1  a0 | a3  a2  a1  a0         half of the register; shifts by 4, 8, 12 give a[1] to a[3]
//                  higher input  |  lower input
//
//   8 bits   [strip][k-block][tiles 0,1 | tiles 2,3][lane][tile][word 0, 1]   two words a tile, 1024 bytes a k-block
//
//            bit  31       24       16        8        0
//            word 0  a1 high  a1 low   a0 high  a0 low    high, low: the higher and the lower input
//            word 1  a3 high  a3 low   a2 high  a2 low
//
//   scales   [strip][group][g][tile][output g, g+8]       of the checkpoint's type: a lane reads its eight at once
//   zeros    [strip][group][g][tile][output g, g+8]       one byte each; absent when the zero point is 2^(bits-1)
//   output   [out] floats; absent where all output scales are 1
//   scales
//   bias     [out] floats; absent without bias
//   order    [in] int32, of experts [experts][in]; absent when the order of inputs is natural
//
// cuda/memory/linear_layout.h has the sizes and offsets of these. Outputs are padded to whole strips (with zero
// scales), inputs to a multiple of 128 (with zero codes, which meet zeros of x).
//
// A strip's codes are contiguous: blocks of the GEMM stream through memory, slabs of rows fill whole strips at load
// time, and weights that share an input run as if they were one, strip after strip.
//
// A 16-bit matrix is row-major, its rows zero-padded to a multiple of 64 elements: an embedding can read it too, and
// ldmatrix makes fragments of it.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/linear_layout.h"
#include "primitives/macros.h"

namespace billfish::BILLFISH_TARGET {

using gpu::block_inputs, gpu::packed_group_size, gpu::padded_elements, gpu::padded_inputs, gpu::strip_outputs;
// What kernels are compiled for, besides the number of bits: integers around the middle of their range or around stored
// zero points, or floats (engine/code_type.h).
enum class CodeKind : uint8_t { centered, zero_points, e4m3, e2m1 };
HOST_DEVICE constexpr bool is_float(CodeKind kind) { return kind == CodeKind::e4m3 || kind == CodeKind::e2m1; }

// Inputs of the smallest scale block; group sizes are multiples of this. Scales in bytes are those of e2m1 floats.
HOST_DEVICE constexpr int scale_block_inputs(int scale_bytes) { return scale_bytes == 1 ? 16 : 32; }

HOST_DEVICE constexpr int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

HOST_DEVICE constexpr int codes_block_bytes(int bits) {
  return strip_outputs * block_inputs * bits / 8;
}  // of a k-block

// --- Positions. An output of a strip is 16 tile + 8 upper + g. The word of a strip's codes that holds (output, input),
// and its shift within the word.
struct CodePlace {
  int64_t word;
  int shift;
};
HOST_DEVICE constexpr CodePlace code_place(int bits, int output, int64_t input) {
  const int tile = output / 16, upper = output / 8 % 2, g = output % 8;
  const int64_t block = input / block_inputs;
  const int k = static_cast<int>(input % block_inputs);
  const int right = k / 8, t = k % 8 / 2, odd = k % 2;
  const int lane = 4 * g + t, part = upper + 2 * right;  // the register a[part]
  if (bits == 4) return {block * 128 + lane * 4 + tile, 16 * odd + 4 * part};
  return {block * 256 + tile / 2 * 128 + lane * 4 + tile % 2 * 2 + right, 16 * upper + 8 * odd};
}

// The index of an output among the 64 scales or zeros of a group.
HOST_DEVICE constexpr int entry_index(int output) { return output % 8 * 8 + output / 16 * 2 + output / 8 % 2; }

}  // namespace billfish::BILLFISH_TARGET
