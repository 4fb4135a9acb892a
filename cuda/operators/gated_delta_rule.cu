// The gated delta rule, token after token, with the states in registers.
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
// Floor: decoding reads and writes every state once, 8 bytes a number. A prompt takes 3 multiply-adds a number and
// token (and one multiplication), 2.1 M a layer and token for 32 heads of 128 x 128; with 128 columns a head there are
// 512 warps, one for each scheduler of an H200.
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

// softplus(x) = log(1 + exp(x)): x where exp(x) would overflow, and three terms of the series, of which the next is
// less than 1e-7 of the sum, where 1 + exp(x) would lose its digits.
DEVICE float softplus(float x) {
  if (x > 20.0f) return x;
  const float e = exp(x);
  return x < -5.0f ? e * (1.0f - e * (0.5f - e * (1.0f / 3.0f))) : log(1.0f + e);
}

// chunks: of `rows_at_once` rows of the key dimension.
template <class Element, int chunks>
struct DeltaRule {
  static constexpr int max_threads = delta_threads;
  static constexpr int key_rows = chunks * rows_at_once;

  // Shared memory: q and k [tile_tokens][key_rows], v and then out [tile_tokens][block_columns], decay and beta
  // [tile_tokens][2].
  static constexpr uint32_t k_at = tile_tokens * key_rows * sizeof(float);
  static constexpr uint32_t v_at = 2 * k_at;
  static constexpr uint32_t gates_at = v_at + tile_tokens * block_columns * sizeof(float);
  static constexpr uint32_t shared_bytes = gates_at + tile_tokens * 2 * sizeof(float);

  Global<const Element> q, k, v;
  Global<const float> a, b, bias, log_decay;
  Global<Element> out;
  Global<float> states;
  Global<const int32_t> row_sequence;
  Global<const DeviceSpan> spans;
  int64_t q_stride, k_stride, v_stride, a_stride, b_stride, out_stride, state_width;
  uint32_t heads_a_key, key_dim, value_dim;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const int32_t is_padding = row_sequence[block_index().x];
    if (is_padding < 0) return;
    const DeviceSpan span = spans[block_index().x];
    const uint32_t head = block_index().y, first_column = block_index().z * block_columns;
    const uint32_t column = warp_index() * warp_columns + lane_index() / lanes_a_column;
    const uint32_t part = lane_index() % lanes_a_column;
    const bool works = first_column + column < value_dim;
    const Global<float> state =
        states + (span.slot * state_width + (static_cast<int64_t>(head) * key_dim) * value_dim + first_column + column);

    float s[chunks][4];
    UNROLL for (int i = 0; i < chunks; ++i) {
      UNROLL for (int j = 0; j < 4; ++j) {
        const uint32_t row = i * rows_at_once + part * 4 + j;
        s[i][j] = 0;
        if (works && span.past > 0 && row < key_dim) s[i][j] = state[static_cast<int64_t>(row) * value_dim];
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
    UNROLL for (int i = 0; i < chunks; ++i) {
      UNROLL for (int j = 0; j < 4; ++j) {
        const uint32_t row = i * rows_at_once + part * 4 + j;
        if (works && row < key_dim) state[static_cast<int64_t>(row) * value_dim] = s[i][j];
      }
    }
  }

 private:
  DEVICE static Shared<float> shared_v() { return shared_memory<float>(v_at); }
  DEVICE static Shared<float> shared_gates() { return shared_memory<float>(gates_at); }

  // A warp a token.
  DEVICE void stage(int32_t first_row, int32_t tokens, uint32_t head, uint32_t first_column) const {
    const int64_t key_column = static_cast<int64_t>(head / heads_a_key) * key_dim;
    for (int32_t t = static_cast<int32_t>(warp_index()); t < tokens; t += delta_warps) {
      const int64_t row = first_row + t;
      const float scale = 1.0f / square_root(static_cast<float>(key_dim));
      stage_head(q + (row * q_stride + key_column), scale, shared_memory<float>() + t * key_rows);
      stage_head(k + (row * k_stride + key_column), 1.0f, shared_memory<float>(k_at) + t * key_rows);
      const uint32_t column = first_column + lane_index();
      float value = 0;
      if (column < value_dim) {
        const Element stored = v[row * v_stride + static_cast<int64_t>(head) * value_dim + column];
        value = to_float(stored);
      }
      shared_v()[t * block_columns + lane_index()] = value;
      if (lane_index() == 0) {
        const float own_a = a[row * a_stride + head], own_b = b[row * b_stride + head];
        const float own_bias = bias[head], own_decay = log_decay[head];
        shared_gates()[2 * t] = exp(-exp(own_decay) * softplus(own_a + own_bias));
        shared_gates()[2 * t + 1] = 1.0f / (1.0f + exp(-own_b));
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
      if (row < key_dim) {
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
  DEVICE void step(float (&s)[chunks][4], int32_t t, uint32_t column, uint32_t part) const {
    const Shared<const float> query = shared_memory<const float>() + (t * key_rows + part * 4);
    const Shared<const float> key = shared_memory<const float>(k_at) + (t * key_rows + part * 4);
    const float decay = shared_gates()[2 * t], beta = shared_gates()[2 * t + 1];
    float found = 0;
    UNROLL for (int i = 0; i < chunks; ++i) {
      const float4 four = load_as<float4>(key + i * rows_at_once);
      found += four.x * s[i][0] + four.y * s[i][1] + (four.z * s[i][2] + four.w * s[i][3]);
    }
    found = warp_sum<lanes_a_column>(found);
    const float value = shared_v()[t * block_columns + column];
    const float lacking = beta * (value - decay * found);
    float read = 0;
    UNROLL for (int i = 0; i < chunks; ++i) {
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
      if (column >= value_dim) continue;
      const float value = shared_v()[t * block_columns + lane_index()];
      out[(first_row + t) * out_stride + static_cast<int64_t>(head) * value_dim + column] = from_float<Element>(value);
    }
  }
};

template <int chunks, class Element>
void launch_delta_rule(OperatorContext<Element>& context, const Call<billfish::GatedDeltaRule>& call) {
  using Kernel = DeltaRule<Element, chunks>;
  const Matrix<Element> q = context.template matrix<Element>(call.q), k = context.template matrix<Element>(call.k);
  const Matrix<Element> v = context.template matrix<Element>(call.v), out = context.template matrix<Element>(call.out);
  const Matrix<float> a = context.template matrix<float>(call.a), b = context.template matrix<float>(call.b);
  const DeviceBatch& batch = *context.batch;
  const auto key_dim = static_cast<uint32_t>(q.columns / call.key_heads);
  const auto value_dim = static_cast<uint32_t>(v.columns / call.heads);
  const auto sequences = static_cast<uint32_t>(batch.launched_sequences());
  if (sequences == 0) return;
  launch(context.stream,
         {.grid = {sequences, static_cast<uint32_t>(call.heads), ceil_div(value_dim, block_columns)},
          .block = {delta_threads},
          .shared_bytes = Kernel::shared_bytes,
          .programmatic = true},
         Kernel{q.data,
                k.data,
                v.data,
                a.data,
                b.data,
                vector_of(call.bias),
                vector_of(call.log_decay),
                out.data,
                call.state.data,
                batch.row_sequence(),
                batch.spans(),
                q.stride,
                k.stride,
                v.stride,
                a.stride,
                b.stride,
                out.stride,
                call.state.width,
                static_cast<uint32_t>(call.heads / call.key_heads),
                key_dim,
                value_dim});
}

}  // namespace

template <class Element>
void run(OperatorContext<Element>& context, const Call<billfish::GatedDeltaRule>& call) {
  const int64_t key_dim = call.q.columns / call.key_heads;
  if (key_dim <= 32) return launch_delta_rule<2>(context, call);
  if (key_dim <= 64) return launch_delta_rule<4>(context, call);
  if (key_dim <= 128) return launch_delta_rule<8>(context, call);
  if (key_dim <= 256) return launch_delta_rule<16>(context, call);
  throw Error("UNSUPPORTED_MODEL", "gatedDeltaRule with keys of " + std::to_string(key_dim) +
                                       " columns: CUDA kernels hold at most 256 in registers");
}

BILLFISH_INSTANTIATE_RUN(GatedDeltaRule);

}  // namespace billfish::BILLFISH_TARGET
