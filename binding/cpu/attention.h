// Attention on the CPU, on fp32 activations.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/host_memory.h"
#include "cpu/linear.h"
#include "engine/batch.h"
#include "engine/dtype.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// Attention of a batch over one layer's paged KV cache.
struct Attention {
  Rows q;                // [rows, heads * head_dim], after rope
  Rows k, v;             // [rows, kv_heads * head_dim], of this step's tokens; k after rope
  float* out = nullptr;  // [rows, heads * head_dim]
  int64_t out_stride = 0;
  void* k_cache = nullptr;        // this layer's keys   [blocks][kv_heads][block_size][head_dim] of cache_type
  void* v_cache = nullptr;        // this layer's values, same layout
  DType cache_type = DType::f32;  // f32, f16 or bf16
  int block_size = 0;
  int heads = 0, kv_heads = 0, head_dim = 0;  // head h reads kv head h / (heads / kv_heads)
  float scale = 0;                            // of q.k, usually 1/sqrt(head_dim)
  int window = 0;                             // row at position i sees keys j with i - window < j <= i; 0: all j <= i
  bool bidirectional = false;                 // row sees all keys of its sequence
};

// Scratch that attention() needs for batches of at most `rows` rows, of sequences of at most `positions` positions.
size_t attention_scratch_bytes(int heads, int kv_heads, int head_dim, int64_t rows, int64_t positions);

// Writes the new keys and values into the cache (16-bit types saturate at their largest finite value; infinity
// becomes NaN there, and NaN stays NaN), then computes out. Softmax in fp32, online over the keys. The threads share
// (sequence, kv head, block of rows, split of the keys); only sequences with few rows and many keys are split, so that
// one long sequence keeps every thread busy. The cut depends on the sequence's own lengths alone: neither the number of
// threads nor the rest of the batch changes a result.
void attention(const Attention& a, const Batch& batch, const Scratch& scratch, ThreadPool& pool);

}  // namespace billfish::cpu
