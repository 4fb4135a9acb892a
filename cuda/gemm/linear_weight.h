// The weights of linears on the device, 4, 8 or 16 bits each: size a block of device memory with *_bytes(), lay_out_*()
// a weight over it, fill it in slabs of rows.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "cuda/memory/linear_layout.h"
#include "engine/canonical.h"
#include "engine/dtype.h"
#include "gemm/layout.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

using gpu::MatrixLayout, gpu::PackedLayout;

// A weight over device memory owned elsewhere. Made by lay_out_*; a plain value, freely copied.
struct LinearWeight {
  int bits = 16;  // 4, 8 (layout.h) or 16 (row-major)
  int64_t out = 0, in = 0;

  // 4 and 8 bits.
  int64_t group_size = 0;
  CodeType type = CodeType::integer;
  DType scale_type = DType::f16;
  uint8_t* codes = nullptr;
  uint8_t* scales = nullptr;
  uint8_t* zeros = nullptr;        // null when the zero point is 2^(bits-1), and where codes are floats
  float* output_scales = nullptr;  // [out], null where all are 1
  const int32_t* order = nullptr;  // [in], of experts [experts][in]; null when all are natural

  // 16 bits: element (n, k) is at elements[n * stride + k]; columns [in, stride) are zero.
  DType element_type = DType::f16;
  uint16_t* elements = nullptr;
  int64_t stride = 0;

  float* bias = nullptr;  // [out], null without bias

  CodeKind kind() const {
    if (type == CodeType::e4m3) return CodeKind::e4m3;
    if (type == CodeType::e2m1) return CodeKind::e2m1;
    return zeros == nullptr ? CodeKind::centered : CodeKind::zero_points;
  }
};

// Calls body.template operator()<bits, kind>() for those of the weight.
template <class Body>
void visit_kind(const LinearWeight& weight, const Body& body) {
  const CodeKind kind = weight.kind();
  if (weight.bits == 16) {
    body.template operator()<16, CodeKind::centered>();
  } else if (kind == CodeKind::e4m3) {
    body.template operator()<8, CodeKind::e4m3>();
  } else if (kind == CodeKind::e2m1) {
    body.template operator()<4, CodeKind::e2m1>();
  } else if (weight.bits == 8) {
    kind == CodeKind::centered ? body.template operator()<8, CodeKind::centered>()
                               : body.template operator()<8, CodeKind::zero_points>();
  } else {
    kind == CodeKind::centered ? body.template operator()<4, CodeKind::centered>()
                               : body.template operator()<4, CodeKind::zero_points>();
  }
}

// --- Memory. Exact sizes; a block starts at a multiple of 256 bytes. The arithmetic is in layout.h. Throws
// UNSUPPORTED_MODEL naming the tensor if no kernel takes the shape (a group size that is not a multiple of 32, or of 16
// for floats of 4 bits).
size_t quantized_bytes(const CanonicalShape& shape);
inline size_t matrix_bytes(int64_t out, int64_t in, bool has_bias) { return MatrixLayout(out, in, has_bias).total; }

// --- Loading. lay_out_* queue what does not come in slabs (the order, and a matrix's bias, which is [out] or empty)
// and read their arguments before they return. The rest of the block is undefined until it is filled.
LinearWeight lay_out_quantized(Stream& stream, const CanonicalShape& shape, void* block);
// `element_type`: f16 or bf16, the weight's stored type, which is that of the activations.
LinearWeight lay_out_matrix(Stream& stream, int64_t out, int64_t in, DType element_type, const std::vector<float>& bias,
                            void* block);

// Rows [first, first + count) of a canonical linear: the members of CanonicalRows, copied unchanged to the device (at
// multiples of 16). `first` is a multiple of 64, and so is `count` unless these are the last rows.
struct QuantizedSlab {
  int64_t first = 0, count = 0;
  const uint32_t* codes = nullptr;
  const void* scales = nullptr;
  const uint8_t* zeros = nullptr;        // null without zero points
  const float* output_scales = nullptr;  // null where all are 1
  const float* bias = nullptr;           // null without bias
};
void fill_quantized(Stream& stream, const LinearWeight& weight, const QuantizedSlab& slab);

// Rows [first, first + count) of a matrix, [count][in] of `type` (f32, f16 or bf16) without gaps, on the device at a
// multiple of 16; rounded to the weight's element type.
void fill_matrix(Stream& stream, const LinearWeight& weight, int64_t first, int64_t count, DType type,
                 const void* rows);

}  // namespace billfish::BILLFISH_TARGET
