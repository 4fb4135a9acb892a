// Causal attention of a batch over a layer's paged KV cache, which must already hold the batch's own keys and values
// (write_kv).
#pragma once
#include <cstdint>

#include "layer/batch.h"
#include "layer/kv_cache.h"
#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// out and q: [rows][heads * head_dim]; out may be q. Element: half or bfloat16, of the cache as well. Softmax and sums
// in fp32. `attention` is the index of the layer's shape in the batch's; `scale` of q.k, usually 1/sqrt(head_dim);
// scratch: gpu::attention_scratch_bytes(shape) bytes, aligned to 256, which all layers of a stream may share. Head h
// reads kv head h / (heads / kv_heads). Throws UNSUPPORTED_MODEL for a head_dim above 256 or not a multiple of 8, and
// for a block_size that is not a multiple of 16.
template <class Element>
void attention(Stream& stream, const DeviceBatch& batch, int32_t attention, const Matrix<const Element>& q,
               const KvCache<Element>& cache, float scale, void* scratch, const Matrix<Element>& out);

}  // namespace billfish::BILLFISH_TARGET
