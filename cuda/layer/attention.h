// A layer's paged KV cache, and attention of a batch over it.
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// Keys and values, each [blocks][kv_heads][block_size][head_dim] of Element (half, bfloat16).
// Position p of a sequence is in slot p % block_size of block blocks[p / block_size]. block_size is a multiple of 16,
// head_dim a multiple of 8.
template <class Element>
struct KvCache {
  Element* keys = nullptr;
  Element* values = nullptr;
  int32_t block_size = 0, kv_heads = 0, head_dim = 0;
};

// Writes the batch's new keys and values, [rows][kv_heads * head_dim] each, to the cache. Infinities become NaN: a key
// of -infinity would get weight zero and hide.
template <class Element>
void write_kv(Stream& stream, const DeviceBatch& batch, const Matrix<const Element>& keys,
              const Matrix<const Element>& values, const KvCache<Element>& cache);

// Attention over a cache that already holds the batch's own keys and values (write_kv).
//
// out and q: [rows][heads * head_dim]; out may be q. Element: half or bfloat16, of the cache as well. Softmax and sums
// in fp32. `attention` is the index of the layer's shape in the batch's; `scale` of q.k, usually 1/sqrt(head_dim);
// scratch: gpu::attention_scratch_bytes(shape) bytes, aligned to 256, which all layers of a stream may share. Head h
// reads kv head h / (heads / kv_heads). Throws UNSUPPORTED_MODEL for a head_dim above 256 or not a multiple of 8, and
// for a block_size that is not a multiple of 16.
template <class Element>
void attention(Stream& stream, const DeviceBatch& batch, int32_t attention, const Matrix<const Element>& q,
               const KvCache<Element>& cache, float scale, void* scratch, const Matrix<Element>& out);

}  // namespace billfish::BILLFISH_TARGET
