// One task of attention: a few query rows of one sequence, the query heads of one kv head, and a range of its keys.
#pragma once
#include <cstddef>
#include <cstdint>

#include "engine/dtype.h"

namespace billfish::cpu {

// Query m is head m % group of row m / group, at position first_position + m / group. It sees key j if first_key <= j <
// last_key, j <= its position, and (with a window) j > its position - window.
struct AttentionTask {
  const float* q = nullptr;  // [queries][padded_dim], multiplied by scale * log2(e)
  int queries = 0, group = 0;
  int head_dim = 0;
  int padded_dim = 0;  // head_dim rounded up to a multiple of 16
  int first_position = 0, window = 0;
  int first_key = 0, last_key = 0;

  DType type = DType::f32;
  const char* k = nullptr;  // the rows of this kv head in cache block 0
  const char* v = nullptr;
  size_t block_bytes = 0;  // from there to the same rows in the next block
  const int32_t* blocks = nullptr;
  int block_size = 0;

  // out[m] = sum over keys of 2^(score - maximum[m]) * v, sum[m] = the same without v. A query that sees no key of the
  // range has maximum -infinity and zeros.
  float* out = nullptr;  // [queries][padded_dim]
  float* maximum = nullptr;
  float* sum = nullptr;
  float* workspace = nullptr;  // attention_workspace(queries, padded_dim) floats, 64-byte aligned
};

// Keys are taken in tiles of this many.
constexpr int key_tile = 64;

constexpr size_t attention_workspace(int queries, int padded_dim) {
  return static_cast<size_t>(queries) * (key_tile + 1) + 2 * static_cast<size_t>(key_tile) * padded_dim;
}

using AttentionKernel = void (*)(const AttentionTask& task);

// The kernel of the instruction set in use.
AttentionKernel attention_kernel();

}  // namespace billfish::cpu
