// The gated delta rule. Sequences with many tokens in this step take the chunked form (layer/delta_rule_chunked.h);
// this is the other one, token after token, with the states in registers.
//
// A warp has eight columns of a head's state, four lanes a column, and takes them through all of the sequence's tokens.
// Of the key dimension lane p of a column has rows 16 i + 4 p + (0 .. 3), so that the four lanes read 64 adjacent bytes
// of q and k at a time, which eight columns share:
//
//       lane   0  1  2  3 | 4  5  6  7 | ... 31
//     column       0      |     1      | ...  7
//       rows   0- 4- 8- 12-  16 i further on
//
// A block, four warps, stages q, k and v of `tile_tokens` tokens in shared memory, normalized and with their gates.
//
// Floor: decoding reads and writes every state once, 8 bytes a number. A token takes 3 multiply-adds a number (and one
// multiplication), 2.1 M a layer for 32 heads of 128 x 128.
#include <limits>
#include <string>

#include "layer/delta_rule.h"
#include "layer/delta_rule_chunked.h"
#include "layer/vector.h"
#include "operators/operator_context.h"
#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"
#include "runtime/launch.h"

namespace billfish::BILLFISH_TARGET {
namespace {

constexpr uint32_t delta_warps = 4, delta_threads = delta_warps * warp_size;
constexpr uint32_t lanes_a_column = 4, warp_columns = warp_size / lanes_a_column;
constexpr uint32_t block_columns = delta_warps * warp_columns;
constexpr int32_t tile_tokens = 16;
constexpr int rows_at_once = 16;  // of the key dimension, by the lanes of a column

// groups: of `rows_at_once` rows of the key dimension. Sequences of `max_tokens` or more are left alone.
template <class Element, int groups>
struct DeltaRule {
  static constexpr int max_threads = delta_threads;
  static constexpr int key_rows = groups * rows_at_once;

  // Shared memory: q and k [tile_tokens][key_rows], v and then out [tile_tokens][block_columns], decay and beta
  // [tile_tokens][2].
  static constexpr uint32_t k_at = tile_tokens * key_rows * sizeof(float);
  static constexpr uint32_t v_at = 2 * k_at;
  static constexpr uint32_t gates_at = v_at + tile_tokens * block_columns * sizeof(float);
  static constexpr uint32_t shared_bytes = gates_at + tile_tokens * 2 * sizeof(float);

  DeltaRuleParameters<Element> p;
  int32_t max_tokens;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const int32_t is_padding = p.row_sequence[block_index().x];
    if (is_padding < 0) return;
    const DeviceSpan span = p.spans[block_index().x];
    if (span.rows >= max_tokens) return;
    const uint32_t head = block_index().y, first_column = block_index().z * block_columns;
    const uint32_t column = warp_index() * warp_columns + lane_index() / lanes_a_column;
    const uint32_t part = lane_index() % lanes_a_column;
    const bool works = first_column + column < p.value_dim;
    const Global<float> state = p.state_of(span, head) + (first_column + column);

    float s[groups][4];
    UNROLL for (int i = 0; i < groups; ++i) {
      UNROLL for (int j = 0; j < 4; ++j) {
        const uint32_t row = i * rows_at_once + part * 4 + j;
        s[i][j] = 0;
        if (works && span.past > 0 && row < p.key_dim) s[i][j] = state[static_cast<int64_t>(row) * p.value_dim];
      }
    }
    for (int32_t first = 0; first < span.rows; first += tile_tokens) {
      const int32_t tokens = min(tile_tokens, span.rows - first);
      stage(span.first_row + first, tokens, head, first_column);
      sync_threads();
      for (int32_t t = 0; t < tokens; ++t) step(s, t, column, part);
      sync_threads();
      write_out(span.first_row + first, tokens, head, first_column);
    }
    UNROLL for (int i = 0; i < groups; ++i) {
      UNROLL for (int j = 0; j < 4; ++j) {
        const uint32_t row = i * rows_at_once + part * 4 + j;
        if (works && row < p.key_dim) state[static_cast<int64_t>(row) * p.value_dim] = s[i][j];
      }
    }
  }

 private:
  DEVICE static Shared<float> shared_v() { return shared_memory<float>(v_at); }
  DEVICE static Shared<float> shared_gates() { return shared_memory<float>(gates_at); }

  // A warp a token.
  DEVICE void stage(int32_t first_row, int32_t tokens, uint32_t head, uint32_t first_column) const {
    const int64_t key_column = p.key_column(head);
    for (int32_t t = static_cast<int32_t>(warp_index()); t < tokens; t += delta_warps) {
      const int64_t row = first_row + t;
      const float scale = 1.0f / square_root(static_cast<float>(p.key_dim));
      stage_head(p.q + (row * p.q_stride + key_column), scale, shared_memory<float>() + t * key_rows);
      stage_head(p.k + (row * p.k_stride + key_column), 1.0f, shared_memory<float>(k_at) + t * key_rows);
      const uint32_t column = first_column + lane_index();
      float value = 0;
      if (column < p.value_dim) {
        const Element stored = p.v[row * p.v_stride + p.value_column(head) + column];
        value = to_float(stored);
      }
      shared_v()[t * block_columns + lane_index()] = value;
      if (lane_index() == 0) {
        const float own_a = p.a[row * p.a_stride + head], own_b = p.b[row * p.b_stride + head];
        shared_gates()[2 * t] = exp(-p.rate_of(own_a, head));
        shared_gates()[2 * t + 1] = p.beta_of(own_b);
      }
    }
  }

  // A head of q or k, divided by its norm and times `scale`, and zeros behind it.
  DEVICE void stage_head(Global<const Element> from, float scale, Shared<float> to) const {
    constexpr int per_lane = (key_rows + warp_size - 1) / warp_size;
    float values[per_lane], squares = 0;
    UNROLL for (int i = 0; i < per_lane; ++i) {
      const uint32_t row = i * warp_size + lane_index();
      values[i] = 0;
      if (row < p.key_dim) {
        const Element stored = from[row];
        values[i] = to_float(stored);
      }
      squares += values[i] * values[i];
    }
    const float factor = scale / square_root(warp_sum(squares) + 1e-6f);
    UNROLL for (int i = 0; i < per_lane; ++i) {
      const uint32_t row = i * warp_size + lane_index();
      if (row < key_rows) to[row] = values[i] * factor;
    }
  }

  // One token for one column of a warp.
  DEVICE void step(float (&s)[groups][4], int32_t t, uint32_t column, uint32_t part) const {
    const Shared<const float> query = shared_memory<const float>() + (t * key_rows + part * 4);
    const Shared<const float> key = shared_memory<const float>(k_at) + (t * key_rows + part * 4);
    const float decay = shared_gates()[2 * t], beta = shared_gates()[2 * t + 1];
    float found = 0;
    UNROLL for (int i = 0; i < groups; ++i) {
      const float4 four = load_as<float4>(key + i * rows_at_once);
      found += four.x * s[i][0] + four.y * s[i][1] + (four.z * s[i][2] + four.w * s[i][3]);
    }
    found = warp_sum<lanes_a_column>(found);
    const float value = shared_v()[t * block_columns + column];
    const float lacking = beta * (value - decay * found);
    float read = 0;
    UNROLL for (int i = 0; i < groups; ++i) {
      const float4 k4 = load_as<float4>(key + i * rows_at_once), q4 = load_as<float4>(query + i * rows_at_once);
      s[i][0] = decay * s[i][0] + k4.x * lacking;
      s[i][1] = decay * s[i][1] + k4.y * lacking;
      s[i][2] = decay * s[i][2] + k4.z * lacking;
      s[i][3] = decay * s[i][3] + k4.w * lacking;
      read += q4.x * s[i][0] + q4.y * s[i][1] + (q4.z * s[i][2] + q4.w * s[i][3]);
    }
    read = warp_sum<lanes_a_column>(read);
    if (part == 0) shared_v()[t * block_columns + column] = read;  // all lanes of the column have read v
  }

  DEVICE void write_out(int32_t first_row, int32_t tokens, uint32_t head, uint32_t first_column) const {
    const uint32_t column = first_column + lane_index();
    for (int32_t t = static_cast<int32_t>(warp_index()); t < tokens; t += delta_warps) {
      if (column >= p.value_dim) continue;
      const float value = shared_v()[t * block_columns + lane_index()];
      p.out[(first_row + t) * p.out_stride + p.value_column(head) + column] = from_float<Element>(value);
    }
  }
};

template <int groups, class Element>
void launch_delta_rule(Stream& stream, const DeviceBatch& batch, uint32_t heads, const DeltaRuleParameters<Element>& p,
                       int32_t max_tokens) {
  using Kernel = DeltaRule<Element, groups>;
  launch(stream,
         {.grid = {static_cast<uint32_t>(batch.launched_sequences()), heads, ceil_div(p.value_dim, block_columns)},
          .block = {delta_threads},
          .shared_bytes = Kernel::shared_bytes,
          .programmatic = true},
         Kernel{p, max_tokens});
}

template <int key_rows, class Element>
void launch_chunked(Stream& stream, const DeviceBatch& batch, uint32_t heads, const DeltaRuleParameters<Element>& p) {
  using Kernel = ChunkedDeltaRule<Element, key_rows>;
  launch(stream,
         {.grid = {static_cast<uint32_t>(batch.sequences()), heads,
                   ceil_div(p.value_dim, uint32_t{Kernel::block_columns})},
          .block = {Kernel::threads},
          .shared_bytes = Kernel::shared_bytes,
          .programmatic = true},
         Kernel{p});
}

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::GatedDeltaRule>& call) {
  const Matrix<Element> q = context.template matrix<Element>(call.q), k = context.template matrix<Element>(call.k);
  const Matrix<Element> v = context.template matrix<Element>(call.v), out = context.template matrix<Element>(call.out);
  const Matrix<float> a = context.template matrix<float>(call.a), b = context.template matrix<float>(call.b);
  const DeviceBatch& batch = *context.batch;
  Stream& stream = context.stream;
  const auto heads = static_cast<uint32_t>(call.heads);
  const auto key_dim = static_cast<uint32_t>(q.columns / call.key_heads);
  const DeltaRuleParameters<Element> p{
      .q = q.data,
      .k = k.data,
      .v = v.data,
      .a = a.data,
      .b = b.data,
      .bias = vector_of(call.bias),
      .log_decay = vector_of(call.log_decay),
      .out = out.data,
      .states = call.state.data,
      .row_sequence = batch.row_sequence(),
      .spans = batch.spans(),
      .q_stride = q.stride,
      .k_stride = k.stride,
      .v_stride = v.stride,
      .a_stride = a.stride,
      .b_stride = b.stride,
      .out_stride = out.stride,
      .state_width = call.state.width,
      .heads_a_key = static_cast<uint32_t>(call.heads / call.key_heads),
      .key_dim = key_dim,
      .value_dim = static_cast<uint32_t>(v.columns / call.heads),
  };
  if (batch.launched_sequences() == 0) return;
  // Beyond 128 rows of a state there is no room for its chunks. Steps that are recorded have a token a sequence.
  const bool in_chunks = key_dim <= 128 && key_dim % wide == 0 && is_wide(q) && is_wide(k);
  const int32_t max_tokens = in_chunks ? min_chunked_tokens : std::numeric_limits<int32_t>::max();
  if (batch.longest() >= max_tokens) {
    if (key_dim <= 32) {
      launch_chunked<32>(stream, batch, heads, p);
    } else if (key_dim <= 64) {
      launch_chunked<64>(stream, batch, heads, p);
    } else {
      launch_chunked<128>(stream, batch, heads, p);
    }
  }
  if (batch.shortest() >= max_tokens) return;
  if (key_dim <= 32) return launch_delta_rule<2>(stream, batch, heads, p, max_tokens);
  if (key_dim <= 64) return launch_delta_rule<4>(stream, batch, heads, p, max_tokens);
  if (key_dim <= 128) return launch_delta_rule<8>(stream, batch, heads, p, max_tokens);
  if (key_dim <= 256) return launch_delta_rule<16>(stream, batch, heads, p, max_tokens);
  throw Error("UNSUPPORTED_MODEL", "gatedDeltaRule with keys of " + std::to_string(key_dim) +
                                       " columns: CUDA kernels hold at most 256 in registers");
}

BILLFISH_INSTANTIATE_RUN(GatedDeltaRule);

}  // namespace billfish::BILLFISH_TARGET
