// The operators that keep a state of every sequence: causalConv and gatedDeltaRule.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <iterator>
#include <vector>

#include "cpu/operators.h"

namespace billfish::cpu {
namespace {

int64_t sequences_of(const OperatorContext& context) { return static_cast<int64_t>(context.batch->sequences.size()); }

float* state_of(const LayerState& state, const SequenceSpan& sequence) {
  return state.data + int64_t{sequence.slot} * state.width;
}

// The last rows of x, `kept` of them, for the sequence's next step. A short step moves rows of the step before up.
void keep_rows(const Tensor& x, const SequenceSpan& sequence, int64_t kept, float* state) {
  const auto bytes = static_cast<size_t>(x.columns) * sizeof(float);
  if (sequence.past == 0) std::fill_n(state, kept * x.columns, 0.0f);
  for (int64_t i = 0; i < kept; ++i) {
    const int64_t row = sequence.rows - kept + i;  // of the step
    const float* const from = row >= 0 ? row_of(x, sequence.first_row + row) : state + (row + kept) * x.columns;
    if (from != state + i * x.columns) std::memcpy(state + i * x.columns, from, bytes);
  }
}

}  // namespace

void run(OperatorContext& context, const Call<billfish::CausalConv>& call) {
  const Tensor& x = call.x;
  const float* const weight = vector_of(call.weight);
  const int64_t kept = call.taps - 1;
  const RowKernels& kernels = row_kernels();
  constexpr int64_t columns_at_once = 1024;
  const int64_t parts = (x.columns + columns_at_once - 1) / columns_at_once;
  const std::vector<SequenceSpan>& sequences = context.batch->sequences;  // in the order of their rows
  for_each_row(x.rows * parts, columns_at_once * 4, context.pool, [&](int64_t i) {
    const int64_t at = i / parts, first = i % parts * columns_at_once;
    const auto next = std::upper_bound(sequences.begin(), sequences.end(), at,
                                       [](int64_t r, const SequenceSpan& span) { return r < span.first_row; });
    const SequenceSpan& sequence = *std::prev(next);
    const float* const state = state_of(call.state, sequence);
    const float* rows[16];
    for (int64_t j = 0; j < call.taps; ++j) {
      const int64_t row = at - sequence.first_row - kept + j;  // of the sequence's in this step
      const bool before = row < 0 && sequence.past == 0;
      rows[j] = before     ? nullptr
                : row >= 0 ? row_of(x, sequence.first_row + row) + first
                           : state + (row + kept) * x.columns + first;
    }
    const int64_t count = std::min(columns_at_once, x.columns - first);
    kernels.conv_silu(rows, weight + first * call.taps, call.taps, count, row_of(call.out, at) + first);
  });
  for_each_row(sequences_of(context), kept * x.columns, context.pool, [&](int64_t i) {
    const SequenceSpan& sequence = context.batch->sequences[static_cast<size_t>(i)];
    keep_rows(x, sequence, kept, state_of(call.state, sequence));
  });
}

// Scratch: the gates of every row's heads, then the norms of its key heads.
size_t delta_rule_scratch_bytes(int64_t rows, int64_t heads, int64_t key_heads) {
  return scratch_piece(static_cast<size_t>(rows * heads) * sizeof(DeltaGates)) +
         scratch_piece(static_cast<size_t>(rows * key_heads) * sizeof(DeltaNorms));
}

// softplus(x) = log(1 + exp(x)), which is x where exp(x) would overflow.
static float softplus(float x) { return x > 20.0f ? x : std::log1p(std::exp(x)); }

// 1 / sqrt(sum of squares + 1e-6).
static float norm_of(const float* head, int64_t count) {
  float sum = 0;
  for (int64_t i = 0; i < count; ++i) sum += head[i] * head[i];
  return 1.0f / std::sqrt(sum + 1e-6f);
}

// Columns of a state do not depend on each other, and neither do heads: each task takes `state_columns` of them through
// all of the sequence's tokens, in a copy that stays in the first-level cache (8 KiB at a key dimension of 128). So a
// prompt costs 3 multiply-adds a number of the state and token, which is about 1 % of what its linears cost, and gives
// the same numbers however it is cut. A single token uses the state where it lies.
void run(OperatorContext& context, const Call<billfish::GatedDeltaRule>& call) {
  const int64_t heads = call.heads, key_heads = call.key_heads, rows = call.q.rows;
  const int64_t key_dim = call.q.columns / key_heads, value_dim = call.v.columns / heads;
  const float *const bias = vector_of(call.bias), *const log_decay = vector_of(call.log_decay);
  ScratchPieces scratch(context.scratch);
  DeltaGates* const gates = scratch.take<DeltaGates>(rows * heads);
  DeltaNorms* const norms = scratch.take<DeltaNorms>(rows * key_heads);
  for_each_row(rows, heads * 64 + 2 * key_heads * key_dim, context.pool, [&](int64_t r) {
    for (int64_t h = 0; h < heads; ++h) {
      const float rate = std::exp(log_decay[h]) * softplus(row_of(call.a, r)[h] + bias[h]);
      gates[r * heads + h] = {std::exp(-rate), 1.0f / (1.0f + std::exp(-row_of(call.b, r)[h]))};
    }
    for (int64_t h = 0; h < key_heads; ++h) {
      norms[r * key_heads + h] = {
          norm_of(row_of(call.k, r) + h * key_dim, key_dim),
          norm_of(row_of(call.q, r) + h * key_dim, key_dim) / std::sqrt(static_cast<float>(key_dim))};
    }
  });

  const auto compute = delta_rule_kernel();
  const int64_t strips = (value_dim + state_columns - 1) / state_columns, tasks = heads * strips;
  for_each_row(sequences_of(context) * tasks, state_columns * key_dim, context.pool, [&](int64_t i) {
    const SequenceSpan& sequence = context.batch->sequences[static_cast<size_t>(i / tasks)];
    const int64_t head = i % tasks / strips, first = i % strips * state_columns;
    const int64_t key_head = head / (heads / key_heads), row = sequence.first_row;
    const int64_t columns = std::min(state_columns, value_dim - first);
    float* const stored = state_of(call.state, sequence) + head * key_dim * value_dim + first;
    DeltaTask task{sequence.rows, key_dim, columns};
    task.q = row_of(call.q, row) + key_head * key_dim, task.q_stride = call.q.stride;
    task.k = row_of(call.k, row) + key_head * key_dim, task.k_stride = call.k.stride;
    task.v = row_of(call.v, row) + head * value_dim + first, task.v_stride = call.v.stride;
    task.gates = gates + row * heads + head, task.gates_stride = heads;
    task.norms = norms + row * key_heads + key_head, task.norms_stride = key_heads;
    task.state = stored, task.state_stride = value_dim;
    task.out = row_of(call.out, row) + head * value_dim + first, task.out_stride = call.out.stride;
    if (sequence.rows == 1 && sequence.past > 0 && columns == state_columns) {
      compute(task);
      return;
    }
    alignas(64) float strip[operators::max_state_key_dim * state_columns];
    if (sequence.past == 0 || columns < state_columns) std::fill_n(strip, key_dim * state_columns, 0.0f);
    for (int64_t k = 0; sequence.past > 0 && k < key_dim; ++k) {
      std::copy_n(stored + k * value_dim, columns, strip + k * state_columns);
    }
    task.state = strip;
    task.state_stride = state_columns;
    compute(task);
    for (int64_t k = 0; k < key_dim; ++k) std::copy_n(strip + k * state_columns, columns, stored + k * value_dim);
  });
}

}  // namespace billfish::cpu
