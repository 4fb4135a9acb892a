// A layer's paged KV cache: keys and values, each [blocks][kv_heads][block_size][head_dim] of Element (half, bfloat16).
// Position p of a sequence is in slot p % block_size of block blocks[p / block_size]. block_size is a multiple of 16,
// head_dim a multiple of 8.
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

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

}  // namespace billfish::BILLFISH_TARGET
