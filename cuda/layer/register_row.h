// A row, or a run of its columns, that a block holds in registers so that a norm reads it once: 6 (fp32 norm) or 14
// (add and norm) bytes of traffic per element, and for a single row one launch and one trip to memory.
#pragma once
#include <cstdint>
#include <string>
#include <type_traits>

#include "engine/error.h"
#include "layer/vector.h"
#include "primitives/index.h"
#include "primitives/reduce.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {

// Block size by vectors per thread: more than 512 threads would leave only 64 registers each.
constexpr uint32_t block_threads(int per_thread) { return per_thread == 1 ? 1024 : 512; }

// Vectors of `count` elements: this thread's are thread, thread + threads, ... below `vectors`.
template <int count, int per_thread>
struct RegisterRow {
  float values[per_thread][count];

  template <class Visit>
  DEVICE void for_each(uint32_t vectors, const Visit& visit) {
    UNROLL for (int i = 0; i < per_thread; ++i) {
      const uint32_t vector = thread_index().x + static_cast<uint32_t>(i) * block_size().x;
      if (vector < vectors) visit(values[i], static_cast<int64_t>(vector) * count);
    }
  }

  template <class In>
  DEVICE void load(uint32_t vectors, Global<const In> x) {
    for_each(vectors, [&](float(&v)[count], int64_t column) { load_floats<count, In>(x + column, v); });
  }

  // The mean of term(element) over the block, for every thread.
  template <class Term>
  DEVICE float mean(uint32_t vectors, const Term& term) {
    float sum = 0;
    for_each(vectors, [&](float(&v)[count], int64_t) { UNROLL for (int i = 0; i < count; ++i) sum += term(v[i]); });
    return block_sum(sum, shared_memory<float>()) / static_cast<float>(vectors * count);
  }

  // 1 / sqrt(mean of squares + eps), for every thread.
  DEVICE float norm_factor(uint32_t vectors, float eps) {
    return 1.0f / square_root(mean(vectors, [](float v) { return v * v; }) + eps);
  }
};

// Shared memory for mean().
constexpr uint32_t reduction_bytes = 32 * sizeof(float);

// Calls run(vectors per thread as a constant, threads per block) for rows of `vectors` vectors of `count` elements.
// Throws UNSUPPORTED_MODEL for rows that do not fit into registers.
template <int count, class Run>
void with_vectors_per_thread(int64_t vectors, const Run& run) {
  constexpr int many = count == wide ? 4 : 16;
  const auto threads_with = [&](int64_t per_thread) {
    return static_cast<uint32_t>(((vectors + per_thread - 1) / per_thread + warp_size - 1) / warp_size * warp_size);
  };
  if (threads_with(1) <= block_threads(1)) return run(std::integral_constant<int, 1>(), threads_with(1));
  if (threads_with(many) <= block_threads(many)) {
    return run(std::integral_constant<int, many>(), threads_with(many));
  }
  throw Error("UNSUPPORTED_MODEL", "a norm over " + std::to_string(vectors * count) +
                                       " columns: CUDA kernels hold at most " + std::to_string(many * count * 512) +
                                       " in a block's registers");
}

// Calls run(elements per vector as a constant).
template <class Run>
void with_vector_width(bool in_wide_vectors, const Run& run) {
  if (in_wide_vectors) return run(std::integral_constant<int, wide>());
  run(std::integral_constant<int, 1>());
}

// Launches make(elements of a vector, vectors per thread, vectors), a kernel whose blocks each hold `columns` columns.
// The first two arguments are constants.
template <class MakeKernel>
void launch_with_register_rows(Stream& stream, const GridSize& grid, int64_t columns, bool in_wide_vectors,
                               const MakeKernel& make) {
  with_vector_width(in_wide_vectors, [&](auto count) {
    const int64_t vectors = columns / count;
    with_vectors_per_thread<count>(vectors, [&](auto per_thread, uint32_t threads) {
      launch(stream, {.grid = grid, .block = {threads}, .shared_bytes = reduction_bytes, .programmatic = true},
             make(count, per_thread, static_cast<uint32_t>(vectors)));
    });
  });
}

}  // namespace billfish::BILLFISH_TARGET
