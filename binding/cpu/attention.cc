// The attention driver: writes new keys and values to the cache, splits the work into tasks, runs them on the pool and
// merges what was split.
//
// The split depends only on lengths and head counts, never on the number of threads: results are the same on every
// machine with the same instruction set.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <string>

#include "cpu/attention.h"
#include "cpu/kernels.h"
#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "engine/error.h"

namespace billfish::cpu {
namespace {

// Queries per task: with fewer, widening a tile of keys costs more than it saves; with more, the task exceeds the L2
// cache.
constexpr int wanted_queries = 48;
// A sequence is split along its keys while it has fewer tasks than this, into splits of at least min_keys keys.
constexpr int wanted_tasks = 128, min_keys = 256;
// Multiply-adds worth waking a thread for.
constexpr int64_t work_per_piece = 256 * 1024;

constexpr int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }
constexpr int divided_up(int a, int b) { return (a + b - 1) / b; }
constexpr size_t whole_lines(size_t floats) { return (floats + 15) / 16 * 16; }

// Query heads that share a kv head, and rows that a task takes of them.
struct Grouping {
  Grouping(int heads, int kv_heads) : group(heads / kv_heads), max_rows(std::max(1, wanted_queries / group)) {}
  int max_queries() const { return max_rows * group; }
  int group, max_rows;
};

// A block of rows of one sequence. It has `splits` tasks per kv head, which share the keys; tasks are numbered by kv
// head, then by split.
struct RowBlock {
  int32_t sequence;
  int32_t first_row, rows;  // of the sequence's
  int32_t first_key, last_key;
  int32_t split_keys, splits;
  int64_t first_task;
  int64_t partials;  // offset of its partial results, if splits > 1
};

// If keys are split, every kv head of a block has
//
//   | splits that are not done: a line of 16 floats | partial result of split 0 | of split 1 | ...
//
// and a partial result is [queries][padded_dim] weighted sums, [queries] maxima, [queries] sums of weights, in whole
// lines.
constexpr size_t counter_floats = 16;
size_t partial_floats(int queries, int padded_dim) {
  return whole_lines(static_cast<size_t>(queries) * (static_cast<size_t>(padded_dim) + 2));
}
size_t head_floats(int queries, int padded_dim, int splits) {
  return counter_floats + static_cast<size_t>(splits) * partial_floats(queries, padded_dim);
}

// Maximum floats of a sequence's partial results: split sequences have at most wanted_tasks tasks.
size_t max_partials(const Grouping& grouping, int kv_heads, int head_dim, int64_t rows, int64_t positions) {
  if (2 * kv_heads > wanted_tasks || positions < 2 * min_keys) return 0;
  const int64_t queries = std::min<int64_t>(grouping.max_queries(), rows * grouping.group);
  return wanted_tasks * partial_floats(static_cast<int>(queries), padded(head_dim)) + wanted_tasks / 2 * counter_floats;
}

// A thread's memory for running tasks: the kernel's workspace, the queries, and the result if keys are not split. It is
// thread-local and reused across stages.
class Workspace {
 public:
  float* reserve(size_t floats) {
    if (floats > floats_) {
      memory_.reset();
      memory_.reset(static_cast<float*>(::operator new(floats * sizeof(float), alignment)));
      floats_ = floats;
    }
    return memory_.get();
  }

  static Workspace& of_this_thread() {
    static thread_local Workspace workspace;
    return workspace;
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(float* data) const { ::operator delete(data, alignment); }
  };
  std::unique_ptr<float, Free> memory_;
  size_t floats_ = 0;
};

void write_cache(const Attention& a, const Batch& batch, ThreadPool& pool) {
  const RowKernels& kernels = row_kernels();
  const int64_t row_bytes = a.head_dim * static_cast<int64_t>(byte_size(a.cache_type));
  char* keys = static_cast<char*>(a.k_cache);
  char* values = static_cast<char*>(a.v_cache);
  for (const SequenceSpan& sequence : batch.sequences) {
    const int64_t per_piece = rows_per_piece(2 * static_cast<int64_t>(a.kv_heads) * a.head_dim);
    pool.parallel_for(sequence.rows, per_piece, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t row = sequence.first_row + i, position = sequence.past + i;
        const int64_t block = sequence.blocks[position / a.block_size];
        for (int64_t head = 0; head < a.kv_heads; ++head) {
          const int64_t to = ((block * a.kv_heads + head) * a.block_size + position % a.block_size) * row_bytes;
          kernels.narrow(a.cache_type, a.k.data + row * a.k.stride + head * a.head_dim, a.head_dim, keys + to);
          kernels.narrow(a.cache_type, a.v.data + row * a.v.stride + head * a.head_dim, a.head_dim, values + to);
        }
      }
    });
  }
}

// A wave: the row blocks of consecutive sequences of a batch, as many as have room for their partial results.
struct Wave {
  RowBlock* blocks = nullptr;
  int64_t block_count = 0, tasks = 0;
  int64_t work = 0;  // multiply-adds
  float* partials = nullptr;
  size_t partials_used = 0;
};

// Splits one sequence into row blocks. Appends them to the wave and returns true, or returns false if there is no room
// for its partial results.
bool append(const Attention& a, const Batch& batch, int32_t index, size_t partials_capacity, Wave& wave) {
  const SequenceSpan& sequence = batch.sequences[static_cast<size_t>(index)];
  const Grouping grouping(a.heads, a.kv_heads);
  const int blocks = divided_up(sequence.rows, grouping.max_rows);
  Wave longer = wave;
  // The last rows have the most keys, so they go first and the threads finish together.
  for (int i = blocks - 1; i >= 0; --i) {
    RowBlock block{};
    block.sequence = index;
    block.first_row = static_cast<int32_t>(static_cast<int64_t>(sequence.rows) * i / blocks);
    block.rows = static_cast<int32_t>(static_cast<int64_t>(sequence.rows) * (i + 1) / blocks) - block.first_row;
    const int first_position = sequence.past + block.first_row;
    block.first_key = a.window > 0 ? std::max(0, first_position - a.window + 1) : 0;
    block.last_key = a.bidirectional ? sequence.past + sequence.rows : first_position + block.rows;
    const int keys = block.last_key - block.first_key;
    const int max_splits = std::max(1, wanted_tasks / (blocks * a.kv_heads));
    const int wanted_splits = std::clamp(keys / min_keys, 1, max_splits);
    block.split_keys = divided_up(divided_up(keys, wanted_splits), key_tile) * key_tile;
    block.splits = divided_up(keys, block.split_keys);
    block.first_task = longer.tasks;
    const int queries = block.rows * grouping.group;
    longer.tasks += static_cast<int64_t>(a.kv_heads) * block.splits;
    longer.work += static_cast<int64_t>(queries) * a.kv_heads * keys * a.head_dim * 2;
    if (block.splits > 1) {
      block.partials = static_cast<int64_t>(longer.partials_used);
      longer.partials_used += a.kv_heads * head_floats(queries, padded(a.head_dim), block.splits);
      if (longer.partials_used > partials_capacity) return false;
    }
    longer.blocks[longer.block_count++] = block;
  }
  wave = longer;
  return true;
}

// The counter of a kv head's unfinished splits.
std::atomic<int32_t>& counter_of(float* head) {
  static_assert(sizeof(std::atomic<int32_t>) <= counter_floats * sizeof(float));
  return *std::launder(reinterpret_cast<std::atomic<int32_t>*>(head));
}

void start_counters(const Attention& a, const Wave& wave) {
  const Grouping grouping(a.heads, a.kv_heads);
  for (int64_t i = 0; i < wave.block_count; ++i) {
    const RowBlock& block = wave.blocks[i];
    if (block.splits == 1) continue;
    const size_t size = head_floats(block.rows * grouping.group, padded(a.head_dim), block.splits);
    for (int head = 0; head < a.kv_heads; ++head) {
      new (wave.partials + block.partials + head * size) std::atomic<int32_t>(block.splits);
    }
  }
}

// A partial result, as drawn above.
struct Partial {
  Partial(float* memory, int queries, int padded_dim)
      : out(memory), maximum(out + static_cast<size_t>(queries) * padded_dim), sum(maximum + queries) {}
  float *out, *maximum, *sum;
};

// out = the splits' weighted sums over their common sum of weights, always added in the order of the keys.
void combine(const Attention& a, const SequenceSpan& sequence, const RowBlock& block, int kv_head,
             float* first_partial) {
  const int group = a.heads / a.kv_heads, queries = block.rows * group, padded_dim = padded(a.head_dim);
  const size_t partial_size = partial_floats(queries, padded_dim);
  const RowKernels& kernels = row_kernels();
  for (int m = 0; m < queries; ++m) {
    const int64_t row = sequence.first_row + block.first_row + m / group;
    float* out = a.out + row * a.out_stride + (static_cast<int64_t>(kv_head) * group + m % group) * a.head_dim;
    if (block.splits == 1) {
      const Partial partial(first_partial, queries, padded_dim);
      kernels.scale(partial.out + static_cast<size_t>(m) * padded_dim, 1.0f / partial.sum[m], a.head_dim, out);
      continue;
    }
    float largest = -std::numeric_limits<float>::infinity();
    for (int split = 0; split < block.splits; ++split) {
      largest = std::max(largest, Partial(first_partial + split * partial_size, queries, padded_dim).maximum[m]);
    }
    float sum = 0;
    std::fill(out, out + a.head_dim, 0.0f);
    for (int split = 0; split < block.splits; ++split) {
      const Partial partial(first_partial + split * partial_size, queries, padded_dim);
      const float weight = std::exp2(partial.maximum[m] - largest);
      sum += weight * partial.sum[m];
      kernels.add_scaled(partial.out + static_cast<size_t>(m) * padded_dim, weight, a.head_dim, out);
    }
    kernels.scale(out, 1.0f / sum, a.head_dim, out);
  }
}

// Runs task number `task` of the block, in `memory` of workspace_floats.
void run(const Attention& a, const SequenceSpan& sequence, const RowBlock& block, int64_t task, float* partials,
         AttentionKernel kernel, float* memory) {
  const int kv_head = static_cast<int>(task / block.splits), split = static_cast<int>(task % block.splits);
  const int group = a.heads / a.kv_heads, queries = block.rows * group, padded_dim = padded(a.head_dim);
  const size_t partial_size = partial_floats(queries, padded_dim);
  float* const workspace = memory;
  float* const q = workspace + whole_lines(attention_workspace(queries, padded_dim));
  float* const own_result = q + static_cast<size_t>(queries) * padded_dim;

  // The kernel computes powers of two: exp(x) = 2^(x log2(e)).
  const RowKernels& kernels = row_kernels();
  const float factor = static_cast<float>(a.scale * 1.4426950408889634);
  for (int m = 0; m < queries; ++m) {
    const int64_t row = sequence.first_row + block.first_row + m / group;
    const int64_t head = static_cast<int64_t>(kv_head) * group + m % group;
    const float* from = a.q.data + row * a.q.stride + head * a.head_dim;
    float* to = q + static_cast<size_t>(m) * padded_dim;
    kernels.scale(from, factor, a.head_dim, to);
    std::fill(to + a.head_dim, to + padded_dim, 0.0f);
  }

  float* const head_partials =
      block.splits == 1 ? nullptr
                        : partials + block.partials + kv_head * head_floats(queries, padded_dim, block.splits);
  float* const first_partial = block.splits == 1 ? own_result : head_partials + counter_floats;
  const Partial result(first_partial + split * partial_size, queries, padded_dim);
  const size_t head_bytes = static_cast<size_t>(a.block_size) * a.head_dim * byte_size(a.cache_type);
  AttentionTask job;
  job.q = q;
  job.queries = queries;
  job.group = group;
  job.head_dim = a.head_dim;
  job.padded_dim = padded_dim;
  job.first_position = a.bidirectional ? sequence.past + sequence.rows : sequence.past + block.first_row;
  job.window = a.window;
  job.first_key = block.first_key + split * block.split_keys;
  job.last_key = std::min(job.first_key + block.split_keys, block.last_key);
  job.type = a.cache_type;
  job.k = static_cast<const char*>(a.k_cache) + static_cast<size_t>(kv_head) * head_bytes;
  job.v = static_cast<const char*>(a.v_cache) + static_cast<size_t>(kv_head) * head_bytes;
  job.block_bytes = static_cast<size_t>(a.kv_heads) * head_bytes;
  job.blocks = sequence.blocks;
  job.block_size = a.block_size;
  job.out = result.out;
  job.maximum = result.maximum;
  job.sum = result.sum;
  job.workspace = workspace;
  kernel(job);

  if (block.splits == 1 || counter_of(head_partials).fetch_sub(1, std::memory_order_acq_rel) == 1) {
    combine(a, sequence, block, kv_head, first_partial);
  }
}

// Enough for any task of these heads, so that a thread's workspace grows once and not with every longer prompt.
size_t workspace_floats(const Grouping& grouping, int padded_dim) {
  const int queries = grouping.max_queries();
  return whole_lines(attention_workspace(queries, padded_dim)) + static_cast<size_t>(queries) * padded_dim +
         partial_floats(queries, padded_dim);
}

void run_wave(const Attention& a, const Batch& batch, const Wave& wave, ThreadPool& pool) {
  start_counters(a, wave);
  const AttentionKernel kernel = attention_kernel();
  const size_t floats = workspace_floats(Grouping(a.heads, a.kv_heads), padded(a.head_dim));
  const int64_t grain = std::max<int64_t>(1, work_per_piece * wave.tasks / std::max<int64_t>(1, wave.work));
  pool.parallel_for(wave.tasks, grain, [&](int64_t begin, int64_t end) {
    float* const memory = Workspace::of_this_thread().reserve(floats);
    const RowBlock* block = std::upper_bound(wave.blocks, wave.blocks + wave.block_count, begin,
                                             [](int64_t task, const RowBlock& b) { return task < b.first_task; }) -
                            1;
    for (int64_t task = begin; task < end; ++task) {
      if (task - block->first_task >= static_cast<int64_t>(a.kv_heads) * block->splits) ++block;
      run(a, batch.sequences[static_cast<size_t>(block->sequence)], *block, task - block->first_task, wave.partials,
          kernel, memory);
    }
  });
}

}  // namespace

size_t attention_scratch_bytes(int heads, int kv_heads, int head_dim, int64_t rows, int64_t positions) {
  const size_t partials = max_partials(Grouping(heads, kv_heads), kv_heads, head_dim, rows, positions);
  return scratch_piece(static_cast<size_t>(rows) * sizeof(RowBlock)) + scratch_piece(partials * sizeof(float));
}

void attention(const Attention& a, const Batch& batch, const Scratch& scratch, ThreadPool& pool) {
  write_cache(a, batch, pool);
  ScratchPieces pieces(scratch);
  RowBlock* const blocks = pieces.take<RowBlock>(batch.rows());
  const size_t capacity = pieces.left() / sizeof(float);
  float* const partials = pieces.take<float>(static_cast<int64_t>(capacity));
  const int32_t sequences = static_cast<int32_t>(batch.sequences.size());
  for (int32_t next = 0; next < sequences;) {
    Wave wave;
    wave.blocks = blocks;
    wave.partials = partials;
    const int32_t first = next;
    while (next < sequences && append(a, batch, next, capacity, wave)) ++next;
    if (next == first) {
      throw Error("INTERNAL", "attention: the partial results of a sequence do not fit the scratch of " +
                                  std::to_string(scratch.bytes) + " bytes");
    }
    run_wave(a, batch, wave, pool);
  }
}

void run(OperatorContext& context, const Call<billfish::Attention>& call) {
  Attention a;
  a.q = rows_of(call.q);
  a.k = rows_of(call.k);
  a.v = rows_of(call.v);
  a.out = row_of(call.out, 0);
  a.out_stride = call.out.stride;
  a.k_cache = call.layer.keys;
  a.v_cache = call.layer.values;
  a.cache_type = context.cache_type;
  a.block_size = call.layer.block_size;
  a.heads = call.heads;
  a.kv_heads = call.layer.kv_heads;
  a.head_dim = call.layer.head_dim;
  a.scale = call.scale;
  a.window = call.window;
  a.bidirectional = call.bidirectional != 0;
  attention(a, *context.batch, context.scratch, context.pool);
}

}  // namespace billfish::cpu
