// Attention's driver: writes the new keys and values into the cache, cuts the work into tasks, runs them over the pool
// and puts together what was split.
//
// How the work is cut depends on lengths and head counts alone, never on the number of threads: results are the same on
// every machine with the same instruction set.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "cpu/attention_kernels.h"
#include "cpu/operators.h"
#include "cpu/row_kernels.h"
#include "cpu/row_sharing.h"

namespace billfish::cpu {
namespace {

// Queries of a task: with fewer, widening a tile of keys costs more than it saves; with more, the task leaves the L2.
constexpr int wanted_queries = 48;
// A sequence is split along its keys while it makes fewer tasks than this, but no split has fewer keys than that.
constexpr int wanted_tasks = 128, fewest_keys = 256;
// Multiply-adds that are worth waking a thread for.
constexpr int64_t work_per_piece = 256 * 1024;

constexpr int padded(int head_dim) { return (head_dim + 15) / 16 * 16; }

// 64-byte aligned floats that only ever grow; their content does not survive growing.
class Buffer {
 public:
  float* reserve(size_t count) {
    if (count > capacity_) {
      data_.reset();
      data_.reset(static_cast<float*>(::operator new(count * sizeof(float), alignment)));
      capacity_ = count;
    }
    return data_.get();
  }

 private:
  static constexpr std::align_val_t alignment{64};
  struct Free {
    void operator()(float* data) const { ::operator delete(data, alignment); }
  };
  std::unique_ptr<float, Free> data_;
  size_t capacity_ = 0;
};

// Rows [first_row, first_row + rows) of a sequence with one kv head, and one split of their keys. The splits of a task
// lie next to each other.
struct Task {
  const SequenceSpan* sequence;
  int kv_head;
  int first_row, rows;
  int first_key, last_key;
  int split, splits;
  size_t partial;  // where this split's result lies among the partial results, if splits > 1
  size_t counter;  // of the splits that are not done
};

// What one thread needs while it runs tasks.
struct Workplace {
  std::atomic<bool> taken{false};
  Buffer memory;
};

}  // namespace

class AttentionScratch {
 public:
  std::vector<Task> tasks;
  Buffer partials;
  std::unique_ptr<std::atomic<int>[]> counters;
  size_t counter_capacity = 0;
  std::vector<std::unique_ptr<Workplace>> workplaces;

  // There are as many as threads, and a thread that runs tasks holds one: there is always a free one.
  Workplace& take_workplace() {
    for (;;) {
      for (const std::unique_ptr<Workplace>& workplace : workplaces) {
        if (!workplace->taken.exchange(true, std::memory_order_acquire)) return *workplace;
      }
    }
  }
};

namespace {

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

int divided_up(int a, int b) { return (a + b - 1) / b; }

// Makes the tasks of a batch; returns their multiply-adds in total.
int64_t plan(const Attention& a, const Batch& batch, AttentionScratch& scratch) {
  const int group = a.heads / a.kv_heads;
  size_t partials = 0, counters = 0;
  int64_t work = 0;
  scratch.tasks.clear();
  for (const SequenceSpan& sequence : batch.sequences) {
    if (sequence.rows == 0) continue;
    const int blocks = divided_up(sequence.rows, std::max(1, wanted_queries / group));
    // The last rows have the most keys: they go first, so that the threads end together.
    for (int block = blocks - 1; block >= 0; --block) {
      Task task{};
      task.sequence = &sequence;
      task.first_row = static_cast<int>(static_cast<int64_t>(sequence.rows) * block / blocks);
      task.rows = static_cast<int>(static_cast<int64_t>(sequence.rows) * (block + 1) / blocks) - task.first_row;
      const int first_position = sequence.past + task.first_row;
      const int first_key = a.window > 0 ? std::max(0, first_position - a.window + 1) : 0;
      const int last_key = first_position + task.rows;
      const int most_splits = std::max(1, wanted_tasks / (blocks * a.kv_heads));
      const int wanted_splits = std::clamp((last_key - first_key) / fewest_keys, 1, most_splits);
      const int keys = divided_up(divided_up(last_key - first_key, wanted_splits), key_tile) * key_tile;
      task.splits = divided_up(last_key - first_key, keys);
      const int queries = task.rows * group;
      work += static_cast<int64_t>(queries) * a.heads / group * (last_key - first_key) * a.head_dim * 2;
      for (task.kv_head = 0; task.kv_head < a.kv_heads; ++task.kv_head) {
        for (task.split = 0; task.split < task.splits; ++task.split) {
          task.first_key = first_key + task.split * keys;
          task.last_key = std::min(task.first_key + keys, last_key);
          task.partial = partials;
          task.counter = counters;
          scratch.tasks.push_back(task);
          if (task.splits > 1) partials += static_cast<size_t>(queries) * (padded(a.head_dim) + 2);
        }
        if (task.splits > 1) ++counters;
      }
    }
  }
  scratch.partials.reserve(partials);
  if (counters > scratch.counter_capacity) {
    scratch.counters = std::make_unique<std::atomic<int>[]>(counters);
    scratch.counter_capacity = counters;
  }
  for (const Task& task : scratch.tasks) {
    if (task.splits > 1) scratch.counters[task.counter].store(task.splits, std::memory_order_relaxed);
  }
  return work;
}

// A partial result: [queries][padded_dim] weighted sums, [queries] maxima, [queries] sums of weights.
struct Partial {
  Partial(float* memory, int queries, int padded_dim)
      : out(memory), maximum(out + static_cast<size_t>(queries) * padded_dim), sum(maximum + queries) {}
  float *out, *maximum, *sum;
};

// out = the splits' weighted sums over their common sum of weights, always added up in the order of the keys.
void combine(const Attention& a, const Task& task, float* first_partial) {
  const int group = a.heads / a.kv_heads, queries = task.rows * group, padded_dim = padded(a.head_dim);
  const size_t partial_size = static_cast<size_t>(queries) * (padded_dim + 2);
  const RowKernels& kernels = row_kernels();
  for (int m = 0; m < queries; ++m) {
    const int64_t row = task.sequence->first_row + task.first_row + m / group;
    float* out = a.out + row * a.out_stride + (static_cast<int64_t>(task.kv_head) * group + m % group) * a.head_dim;
    if (task.splits == 1) {
      const Partial partial(first_partial, queries, padded_dim);
      kernels.scale(partial.out + static_cast<size_t>(m) * padded_dim, 1.0f / partial.sum[m], a.head_dim, out);
      continue;
    }
    float largest = -std::numeric_limits<float>::infinity();
    for (int split = 0; split < task.splits; ++split) {
      largest = std::max(largest, Partial(first_partial + split * partial_size, queries, padded_dim).maximum[m]);
    }
    float sum = 0;
    std::fill(out, out + a.head_dim, 0.0f);
    for (int split = 0; split < task.splits; ++split) {
      const Partial partial(first_partial + split * partial_size, queries, padded_dim);
      const float weight = std::exp2(partial.maximum[m] - largest);
      sum += weight * partial.sum[m];
      kernels.add_scaled(partial.out + static_cast<size_t>(m) * padded_dim, weight, a.head_dim, out);
    }
    kernels.scale(out, 1.0f / sum, a.head_dim, out);
  }
}

void run(const Attention& a, const Task& task, AttentionKernel kernel, AttentionScratch& scratch, Buffer& memory) {
  const int group = a.heads / a.kv_heads, queries = task.rows * group, padded_dim = padded(a.head_dim);
  const size_t partial_size = static_cast<size_t>(queries) * (padded_dim + 2);
  const size_t workspace_size = (attention_workspace(queries, padded_dim) + 15) / 16 * 16;
  const size_t q_size = static_cast<size_t>(queries) * padded_dim;
  float* workspace = memory.reserve(workspace_size + q_size + partial_size);
  float* q = workspace + workspace_size;

  // The kernel computes powers of two: exp(x) = 2^(x log2(e)).
  const RowKernels& kernels = row_kernels();
  const float factor = static_cast<float>(a.scale * 1.4426950408889634);
  for (int m = 0; m < queries; ++m) {
    const int64_t row = task.sequence->first_row + task.first_row + m / group;
    const int64_t head = static_cast<int64_t>(task.kv_head) * group + m % group;
    const float* from = a.q.data + row * a.q.stride + head * a.head_dim;
    float* to = q + static_cast<size_t>(m) * padded_dim;
    kernels.scale(from, factor, a.head_dim, to);
    std::fill(to + a.head_dim, to + padded_dim, 0.0f);
  }

  const size_t head_bytes = static_cast<size_t>(a.block_size) * a.head_dim * byte_size(a.cache_type);
  float* partials = task.splits > 1 ? scratch.partials.reserve(0) : nullptr;
  const Partial result(task.splits > 1 ? partials + task.partial : q + q_size, queries, padded_dim);
  AttentionTask job;
  job.q = q;
  job.queries = queries;
  job.group = group;
  job.head_dim = a.head_dim;
  job.padded_dim = padded_dim;
  job.first_position = task.sequence->past + task.first_row;
  job.window = a.window;
  job.first_key = task.first_key;
  job.last_key = task.last_key;
  job.type = a.cache_type;
  job.k = static_cast<const char*>(a.k_cache) + static_cast<size_t>(task.kv_head) * head_bytes;
  job.v = static_cast<const char*>(a.v_cache) + static_cast<size_t>(task.kv_head) * head_bytes;
  job.block_bytes = static_cast<size_t>(a.kv_heads) * head_bytes;
  job.blocks = task.sequence->blocks;
  job.block_size = a.block_size;
  job.out = result.out;
  job.maximum = result.maximum;
  job.sum = result.sum;
  job.workspace = workspace;
  kernel(job);

  if (task.splits == 1) {
    combine(a, task, result.out);
  } else if (scratch.counters[task.counter].fetch_sub(1, std::memory_order_acq_rel) == 1) {
    combine(a, task, partials + task.partial - static_cast<size_t>(task.split) * partial_size);
  }
}

}  // namespace

std::unique_ptr<AttentionScratch, void (*)(AttentionScratch*)> make_attention_scratch() {
  return {new AttentionScratch, [](AttentionScratch* scratch) { delete scratch; }};
}

void attention(const Attention& a, const Batch& batch, AttentionScratch& scratch, ThreadPool& pool) {
  write_cache(a, batch, pool);
  const int64_t work = plan(a, batch, scratch);
  const int64_t tasks = static_cast<int64_t>(scratch.tasks.size());
  if (tasks == 0) return;
  while (scratch.workplaces.size() < static_cast<size_t>(pool.threads())) {
    scratch.workplaces.push_back(std::make_unique<Workplace>());
  }
  const AttentionKernel kernel = attention_kernel();
  pool.parallel_for(tasks, std::max<int64_t>(1, work_per_piece * tasks / std::max<int64_t>(1, work)),
                    [&](int64_t begin, int64_t end) {
                      Workplace& workplace = scratch.take_workplace();
                      for (int64_t i = begin; i < end; ++i) {
                        run(a, scratch.tasks[static_cast<size_t>(i)], kernel, scratch, workplace.memory);
                      }
                      workplace.taken.store(false, std::memory_order_release);
                    });
}

}  // namespace billfish::cpu
