// Linears on the device: y[m, n] = sum over k of x[m, k] * w[n, k] (+ bias[n]), with weights of 4, 8 or 16 bits.
//
// Loading: size a block of device memory with *_bytes(), lay_out_*() a weight over it, fill it in slabs of rows.
// Running: linear() on a stream, with a workspace that all linears of the stream share.
//
// Products are exact in fp32 whatever the bits: codes minus zero points are integers that half and bfloat16 both hold,
// tensor cores add their products with x in fp32, and the scale of a group multiplies the group's fp32 sum. So
// the only roundings are those of fp32 sums, and of y where it is not float. With many rows and a panel in the
// workspace weights may be rounded to 16 bits first (panel_choice.h). Results are the same in every run on the same
// kind of device with the same rows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/canonical.h"
#include "engine/dtype.h"
#include "layer/tensor.h"
#include "primitives/numbers.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class MatrixLibrary;
struct GemmMachine;

// A weight over device memory that somebody else owns. Made by lay_out_*; a plain value, to be copied freely.
struct LinearWeight {
  int bits = 16;  // 4, 8 (layout.h) or 16 (row-major)
  int64_t out = 0, in = 0;

  // 4 and 8 bits.
  int64_t group_size = 0;
  DType scale_type = DType::f16;
  uint8_t* codes = nullptr;
  uint8_t* scales = nullptr;
  uint8_t* zeros = nullptr;        // null when the zero point is 2^(bits-1)
  const int32_t* order = nullptr;  // [in], null when the order is natural

  // 16 bits: element (n, k) is at elements[n * stride + k]; columns [in, stride) are zero.
  DType element_type = DType::f16;
  uint16_t* elements = nullptr;
  int64_t stride = 0;

  float* bias = nullptr;  // [out], null without bias
};

// --- Memory. Exact; a block starts at a multiple of 256 bytes. The arithmetic is in layout.h.
// Throws INVALID_CHECKPOINT naming the tensor when no kernel takes the shape (group sizes that are no multiple of 32).
size_t quantized_bytes(const CanonicalShape& shape);
size_t matrix_bytes(int64_t out, int64_t in, bool has_bias);

// --- Loading. lay_out_* queue what does not come in slabs (the order, a matrix's bias, which is [out] or empty) and
// read their arguments before they return. Everything else in the block is undefined until it is filled.
LinearWeight lay_out_quantized(Stream& stream, const CanonicalShape& shape, void* block);
// `element_type`: f16 or bf16, what the weight is kept as, which is the type of the activations.
LinearWeight lay_out_matrix(Stream& stream, int64_t out, int64_t in, DType element_type, const std::vector<float>& bias,
                            void* block);

// Rows [first, first + count) of a canonical linear, each member of CanonicalRows copied to the device as it is (to
// addresses that are multiples of 16). `first` is a multiple of 64, and so is `count` unless these are the last rows.
struct QuantizedSlab {
  int64_t first = 0, count = 0;
  const uint32_t* codes = nullptr;
  const void* scales = nullptr;
  const uint8_t* zeros = nullptr;  // null without zero points
  const float* bias = nullptr;     // null without bias
};
void fill_quantized(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab);

// Rows [first, first + count) of a matrix, [count][in] of `type` (f32, f16 or bf16) without gaps, on the device at a
// multiple of 16; rounded to the weight's element type.
void fill_matrix(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, DType type,
                 const void* rows);

// --- Running.
// Scratch of the linears of one stream (they run one after the other, and leave it as they found it). `data` is
// zeroed before the first use, and never again.
struct LinearWorkspace {
  void* data = nullptr;
  size_t bytes = 0;
  size_t panel_bytes = 0;                // the last of them, for weights that are dequantized first
  MatrixLibrary* library = nullptr;      // if there is one: opened with library_workspace()
  const GemmMachine* machine = nullptr;  // what is planned for; null: the stream's device without a tuning
};
struct LinearLimits {
  int64_t rows = 0;        // the most rows of x
  int64_t inputs = 0;      // the largest `in` of a weight whose x must be gathered first: needs_gather()
  size_t panel_bytes = 0;  // the largest panel of the weights: panel_bytes()
};
// What a quantized weight takes to be dequantized first, at most 128 MiB; 0 where x never has rows enough for that.
size_t panel_bytes(int64_t out, int64_t in, int64_t rows);
// Whether linear() has to bring columns of x into place first: act-order, or rows of x that cannot be read 16 bytes at
// a time (`in` is no multiple of 8, or x is not aligned).
bool needs_gather(const LinearWeight& weight);
// A function of the limits alone, so that a plan can name it before there is a device.
size_t linear_workspace_bytes(const LinearLimits& limits);
// The part of the workspace that the library uses: sums of the GEMM's tiles lie there while it does not run.
void* library_workspace(const LinearWorkspace& workspace);

// out is [rows of x][weight.out] with rows `stride` apart; type f32 or that of x.
struct LinearCall {
  const LinearWeight* weight = nullptr;
  void* out = nullptr;
  int64_t stride = 0;
  DType type = DType::f16;
};

// Applies `count` weights to one input. Weights of one kind (bits, groups, zero points, scale type) share a launch.
// x: half or bfloat16, [rows][in] with in that of all weights; rows that begin at multiples of 16 bytes are read in
// place, others (and act-order) go through the workspace, which then must hold them (LinearLimits::inputs).
// Throws INTERNAL naming the numbers when shapes, types or the workspace do not fit.
template <class Element>
void linear(Stream& stream, const LinearCall* calls, int count, const Matrix<const Element>& x,
            const LinearWorkspace& workspace);

}  // namespace billfish::BILLFISH_TARGET
