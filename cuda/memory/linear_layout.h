// Where weights and the linears' workspace lie in a device's memory, in bytes.
//
// A quantized weight has up to six sections (gemm/layout.h draws what is in each):
//
//   codes    strips of 64 outputs, inputs padded to a multiple of 128
//   scales   [strip][group][64 outputs] of the checkpoint's type
//   zeros    the same, one byte each; not there when the zero point is 2^(bits-1)
//   output   [out] floats; not there where all output scales are 1
//   scales
//   bias     [out] floats; not there without bias
//   order    [in] int32; there where the checkpoint tells the order of the inputs, used where that is not the natural
//   one
//
// A matrix has two: 16-bit elements, rows padded to a multiple of 64 elements, and the bias.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/allocation.h"
#include "engine/canonical.h"

namespace billfish::gpu {

constexpr int strip_outputs = 64;
constexpr int block_inputs = 16;     // of a k-block
constexpr int padded_inputs = 128;   // inputs of quantized weights are padded to a multiple of this
constexpr int padded_elements = 64;  // and those of 16-bit matrices

// Groups are packed by powers of two, so that stages of the GEMM and groups end together: a group of 96 inputs is kept
// as three of 32 with the same scale.
constexpr int64_t packed_group_size(int64_t group_size, int64_t in) {
  return group_size >= in ? in : group_size & -group_size;
}

// Sizes and places of a quantized weight's sections.
struct PackedLayout {
  explicit PackedLayout(const CanonicalShape& shape);
  int64_t strips, blocks, groups;  // as packed
  size_t codes, scales, zeros, output_scales, bias, order, total;
};

constexpr uint64_t vector_bytes(uint64_t length) { return length * sizeof(float); }

// Of a 16-bit matrix.
struct MatrixLayout {
  MatrixLayout(int64_t out, int64_t in, bool has_bias);
  int64_t stride;  // elements from row to row
  size_t bias, total;
};

// --- The workspace that the linears of a stream share: counters | partial sums, or the library's | gathered x | panel.

constexpr uint32_t max_blocks = 1024;               // of a launch; each has a counter
constexpr size_t partial_bytes = size_t{24} << 20;  // two tiles of floats a block
constexpr size_t counter_bytes = max_blocks * sizeof(int32_t);
constexpr size_t gathered_offset = counter_bytes + partial_bytes;

// Elements from row to row of gathered x.
constexpr int64_t gathered_stride(int64_t in) { return (in + padded_elements - 1) / padded_elements * padded_elements; }

// Whether columns of x have to be brought into place first: an order of their own, or rows that cannot be read 16 bytes
// at a time.
constexpr bool needs_gather(bool has_order, int64_t in) { return has_order || in % 8 != 0; }

struct LinearLimits {
  int64_t rows = 0;        // the most rows of x
  int64_t inputs = 0;      // the largest `in` of a weight whose x must be gathered first: needs_gather()
  size_t panel_bytes = 0;  // the largest panel of the weights: panel_bytes()
};
size_t linear_workspace_bytes(const LinearLimits& limits);

// --- Panels: weights made into 16-bit numbers before they are multiplied (panels/linear.h).

// Stages that never have so many rows have no panel; with fewer rows panels are never tried.
constexpr int64_t min_panel_rows = 256;
constexpr size_t max_panel_bytes = size_t{128} << 20;

// The panels of a weight: `rows` outputs each (the last one fewer), of `stride` elements.
struct PanelShape {
  int64_t rows, stride, count;
  size_t bytes() const { return static_cast<size_t>(rows * stride) * sizeof(uint16_t); }
};
// As few as fit into so many bytes, of even heights in multiples of 256, or of 64 where 256 rows do not fit; `count` is
// 0 where not even 64 do.
PanelShape panels_of(int64_t out, int64_t in, size_t bytes = max_panel_bytes);

// What a quantized weight takes to be dequantized first, at most 128 MiB; 0 where x never has rows enough for that.
size_t panel_bytes(int64_t out, int64_t in, int64_t rows);

}  // namespace billfish::gpu
