// Linear layers on the CPU. Weights are packed once at load; one packing serves every instruction set.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/host_memory.h"
#include "cpu/kernels.h"
#include "engine/canonical.h"
#include "engine/dtype.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// exact: fp32 activations and fp32 accumulation (dtype 'float32'). fast: activations are quantized to 16 bits a block
// of 128 inputs (see linear_activation.h), products are summed as integers.
enum class Precision { exact, fast };

// Which row of a value a row of a linear is: row r itself, or that of a slot (GroupedLinear), slot = token * per_token
// + its number among the token's.
struct SlotMap {
  const int32_t* slots = nullptr;
  int64_t per_token = 1;
  int64_t columns = 0;  // from a slot to the next of its token; 0: they share a row

  int64_t offset(int64_t r, int64_t stride) const {
    if (slots == nullptr) return r * stride;
    return slots[r] / per_token * stride + slots[r] % per_token * columns;
  }
};

// A row-major view of fp32 activations: row r, of `columns` elements, is at row(r).
struct Rows {
  const float* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;
  SlotMap slots = {};

  const float* row(int64_t r) const { return data + slots.offset(r, stride); }
};

// Bytes of the packed block of a linear of this shape: exact, the plan counts with it. A multiple of 64.
size_t packed_bytes(const CanonicalShape& shape);

// Lays a QuantizedLinear over `block` (packed_bytes(shape) bytes, 64-byte aligned, zeroed).
QuantizedLinear make_quantized_linear(const CanonicalShape& shape, void* block);

// Packs a slab. Slabs start at a multiple of row_tile and may be packed by several threads at once.
constexpr int64_t row_tile = 16;
void pack_rows(const QuantizedLinear& linear, const CanonicalRows& rows);

// One of several linears that share their input: y = x * W^T (+ bias), written to out[r * stride + n].
struct LinearCall {
  const Matrix* matrix = nullptr;  // exactly one of the two is set
  const QuantizedLinear* quantized = nullptr;
  float* out = nullptr;
  int64_t stride = 0;
  SlotMap slots = {};
};

// Runs all calls on x. Neighbors that take x in the same form (act-order, segments, type) share one prepared
// activation and one parallel region: q, k and v, or gate and up, usually cost one. `scratch` has at least the
// linear_scratch_bytes of each call.
void linear(const LinearCall* calls, int count, const Rows& x, Precision precision, const Scratch& scratch,
            ThreadPool& pool);
size_t linear_scratch_bytes(const LinearCall& call, int64_t rows, Precision precision);

}  // namespace billfish::cpu
