// The operators of a decoder layer on the CPU, all on fp32 activations. One file each, with a scalar reference next to
// each SIMD version. Rows are independent unless noted, and every operator parallelizes over rows.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cpu/linear.h"
#include "cpu/scratch.h"
#include "engine/batch.h"
#include "engine/dtype.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

// out[r, :] = table[ids[r] - first, :] as fp32; zeros for ids that have no row in the table.
void embedding(const Matrix& table, int64_t first, const int32_t* ids, int64_t rows, float* out, int64_t out_stride,
               ThreadPool& pool);

// out = x / sqrt(mean(x^2) + eps) * weight, over each run of `width` columns (width == columns for a layer norm, ==
// head_dim for q/k norm; weight has `width` elements). The mean is accumulated in fp32 by 16 lanes or better. out may
// be x.
void rms_norm(const Rows& x, const float* weight, int64_t width, float eps, float* out, int64_t out_stride,
              ThreadPool& pool);

// x += y first, then out = rms_norm(x): the residual add and the norm that follows it, in one pass.
void add_rms_norm(float* x, int64_t x_stride, const Rows& y, const float* weight, float eps, float* out,
                  int64_t out_stride, ThreadPool& pool);

// out = (x - mean(x)) / sqrt(mean((x - mean(x))^2) + eps) * weight + bias, over whole rows; bias may be null. A mean
// that is large compared with the deviations costs no precision. out may be x.
void layer_norm(const Rows& x, const float* weight, const float* bias, float eps, float* out, int64_t out_stride,
                ThreadPool& pool);

// out = a + b. out may be a.
void add(const Rows& a, const Rows& b, float* out, int64_t out_stride, ThreadPool& pool);

// out = silu(gate) * up, silu(g) = g / (1 + exp(-g)). |relative error of exp| <= 2e-7. out may be gate.
void silu_mul(const Rows& gate, const Rows& up, float* out, int64_t out_stride, ThreadPool& pool);

// cos/sin of every row's angles: angle[r, i] = float(position[r]) * inverse_frequency[i] (rounded to fp32, as PyTorch
// does), table[r] = { cos[0..half), sin[0..half) } * attention_scale. A sequence with rope_base != 0 takes
// inverse_frequency[i] = 1 / rope_base^(2i / (2 half)) in its place (dynamic NTK), which is written to `scratch`,
// [half].
void rope_table(const Batch& batch, const float* inverse_frequency, int64_t half, float attention_scale, float* table,
                float* scratch, ThreadPool& pool);

// Rotates the first 2*half columns of every head in place, NeoX style: (x1, x2) are columns i and i + half.
void rope(float* x, int64_t rows, int64_t stride, int heads, int head_dim, const float* table, int64_t half,
          ThreadPool& pool);

// Qwen v1's log-n attention: row r is multiplied by log(p) / log(length) where its 1-based position p exceeds length.
void log_n_scale(float* x, int64_t rows, int64_t columns, int64_t stride, const int32_t* positions, int length,
                 ThreadPool& pool);

// out[i] = x[rows[i]].
void gather_rows(const Rows& x, const int32_t* rows, int64_t count, float* out, int64_t out_stride);

// Causal attention of a batch over one layer's paged KV cache.
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
};

// Scratch that attention() needs for batches of at most `rows` rows, of sequences of at most `positions` positions.
size_t attention_scratch_bytes(int heads, int kv_heads, int head_dim, int64_t rows, int64_t positions);

// Writes the new keys and values into the cache (16-bit types saturate at their largest finite value; infinity becomes
// NaN there, and NaN stays NaN), then computes out. Softmax in fp32, online over the keys. The threads share (sequence,
// kv head, block of rows, split of the keys); only sequences with few rows and many keys are split, so that one long
// sequence keeps every thread busy. The split depends only on the sequence's own lengths: neither the number of threads
// nor the rest of the batch changes a result.
void attention(const Attention& a, const Batch& batch, const Scratch& scratch, ThreadPool& pool);

// fp64 reference for tests: out is [rows][heads * head_dim]. This step's keys and values are those of a.k and a.v,
// rounded to cache_type; earlier ones are read from the cache.
void attention_reference(const Attention& a, const Batch& batch, double* out);

}  // namespace billfish::cpu
