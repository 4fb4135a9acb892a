// The gated delta rule for prompts, in chunks of 32 tokens: the chunkwise form of Gated DeltaNet (arXiv 2412.06464), on
// tensor cores. With the logarithms g of a chunk's decays summed to G_i, normalized rows k and q, and S as the chunk
// finds it:
//
//   A_ij = beta_i exp(G_i - G_j) k_i k_j   (j < i)        T = (I + A)^-1                         [tokens][tokens]
//   P_ij = exp(G_i - G_j) q_i k_j          (j <= i)
//   R_i  = beta_i (v_i - exp(G_i) k_i S)                  N = T R        what each token adds    [tokens][columns]
//   O_i  = exp(G_i) q_i S + P_i N                         S = exp(G_last) S + sum exp(G_last - G_i) k_i N_i
//
// A block has 32 columns of a head's state and goes through the sequence's chunks. Of its eight warps
//
//   0, 1   hold 16 columns of S each, in fp32 accumulators: R, N, the next S
//   2, 3   write O of the same columns
//   4 - 7  read the next chunk, and compute its T and P, which do not depend on S.
//
// S is held transposed, [columns][key rows]: an accumulator then has the layout of the next product's A operand, so
// that S, R and N reach the tensor cores without an exchange between lanes.
//
// Precision: q, k and v are exact operands as they are (norms become factors of rows, but for a power of two that keeps
// rows of k and q near 1). What is computed in fp32 enters as the sum of two elements, and of a product of two sums all
// but the product of the lower elements is computed: 16 bits with bfloat16, 22 with half. T is inverted in fp32. exp is
// taken of differences of G, never above 0. With half, values and states beyond 65504 become NaN. A NaN of one token
// also reaches those before it in its chunk.
//
// Floor for a head of 128 x 128: a chunk takes each warp with S 146 mma, each with O 82, and the other four together
// 96, so 552 a block. A tensor core, of which a multiprocessor has four, takes about 8 cycles for one: 1100 cycles a
// chunk, or 0.08 ms for 4096 tokens. The warps with S, which the others wait for, take 1170 cycles and the time to
// convert S; token by token a warp takes about 300 for one token. (All of this is reckoned, not measured.) Batch 1 with
// 32 heads has 128 blocks for the 132 multiprocessors of an H200, so four blocks compute the same T and P while their
// tensor cores would wait for S. A kernel of its own for T and P would need 8 KiB of memory a chunk and head (32 MiB
// for 4096 tokens), and shorten nothing. Reading q and k four times is 270 MB of L2 traffic, 0.05 ms. Two stages of 64
// tokens would not fit into 99 KiB, and a token of them takes more mma: of T and P more lies in blocks on the diagonal.
#pragma once
#include "layer/delta_rule.h"
#include "layer/shared_rows.h"
#include "layer/split_operand.h"
#include "layer/vector.h"
#include "primitives/index.h"
#include "primitives/math.h"
#include "primitives/mma.h"
#include "primitives/reduce.h"
#include "primitives/sync.h"
#include "primitives/warp.h"

namespace billfish::BILLFISH_TARGET {

// Sequences with fewer tokens are faster token by token: 16 take about as long as one chunk and its preparation.
constexpr int32_t min_chunked_tokens = 16;

// A sum of logarithms in two floats, since differences of such sums are wanted as exactly as their terms.
DEVICE float2 add_exactly(float2 a, float2 b) {
  const float sum = a.x + b.x, part = sum - a.x;
  return {sum, a.y + b.y + ((a.x - (sum - part)) + (b.x - part))};
}

template <class Element, int key_rows>
struct ChunkedDeltaRule {
  static constexpr int chunk_tokens = 32, pair_columns = 16, block_columns = 32;
  static constexpr int threads = 256, producer_threads = 128;
  // Where a head count gives more blocks than multiprocessors, two share one, and each fills the other's waits.
  static constexpr int max_threads = threads, min_blocks = 2;

  using Keys = SharedRows<Element, key_rows>;
  using Square = SharedRows<Element, chunk_tokens>;
  using Operand = SplitOperand<Element>;

  // Shared memory. Of a stage, of which there are two: k, q, v, T and P (their upper and lower elements), a
  // TokenFactors a token, exp(G_last).
  static constexpr uint32_t q_at = Keys::bytes(chunk_tokens), v_at = 2 * q_at;
  static constexpr uint32_t square_bytes = Square::bytes(chunk_tokens);
  static constexpr uint32_t t_at = v_at + square_bytes, p_at = t_at + 2 * square_bytes;
  static constexpr uint32_t factors_at = p_at + 2 * square_bytes;
  static constexpr uint32_t last_at = factors_at + chunk_tokens * sizeof(float4);
  static constexpr uint32_t stage_bytes = last_at + sizeof(float4);
  // A, by columns; G; beta; the norms' factors of k and q.
  static constexpr int a_stride = chunk_tokens + 4;
  static constexpr uint32_t a_at = 2 * stage_bytes, sums_at = a_at + chunk_tokens * a_stride * sizeof(float);
  static constexpr uint32_t betas_at = sums_at + chunk_tokens * sizeof(float2);
  static constexpr uint32_t scales_at = betas_at + chunk_tokens * sizeof(float);
  // S and N as A operands, for each 16 columns.
  static constexpr uint32_t state_operands_at = scales_at + 2 * chunk_tokens * sizeof(float);
  static constexpr uint32_t new_operands_at = state_operands_at + 2 * (key_rows / 16) * Operand::bytes;
  static constexpr uint32_t shared_bytes = new_operands_at + 2 * (chunk_tokens / 16) * Operand::bytes;
  static_assert(shared_bytes <= 99 * 1024, "what a block may have on every architecture from sm_80 on");

  DeltaRuleParameters<Element> p;

  DEVICE void operator()() const {
    begin_after_previous_grid();
    const DeviceSpan span = p.spans[block_index().x];
    if (span.rows < min_chunked_tokens) return;
    const Block block{span, block_index().y, block_index().z * block_columns, ceil_div(span.rows, chunk_tokens)};
    if (warp_index() >= 4) {
      prepare_chunks(block);
    } else if (warp_index() < 2) {
      advance_state(block);
    } else {
      write_outputs(block);
    }
  }

 private:
  struct Block {
    DeviceSpan span;
    uint32_t head, first_column;
    int32_t chunks;
  };
  // Of a token: beta, and what k S, q S and k N are multiplied by (the norms' factors, and the decay since the chunk's
  // begin or to its end).
  struct TokenFactors {
    float beta, found, read, kept;
  };

  // Named barriers: of all warps between chunks, of those that prepare, and of the two that share columns.
  DEVICE static void end_chunk() { sync_barrier(1, threads); }
  DEVICE static void sync_producers() { sync_barrier(2, producer_threads); }
  DEVICE static void sync_pair(int pair) { sync_barrier(3 + pair, 2 * static_cast<int>(warp_size)); }

  DEVICE static uint32_t stage_at(int32_t chunk) { return static_cast<uint32_t>(chunk % 2) * stage_bytes; }
  DEVICE static Keys keys_of(int32_t chunk) { return {shared_memory<Element>(stage_at(chunk))}; }
  DEVICE static Keys queries_of(int32_t chunk) { return {shared_memory<Element>(stage_at(chunk) + q_at)}; }
  // which: 0 for the upper elements, 1 for the lower ones.
  DEVICE static Square square(int32_t chunk, uint32_t at, int which = 0) {
    return {shared_memory<Element>(stage_at(chunk) + at + static_cast<uint32_t>(which) * square_bytes)};
  }
  DEVICE static Shared<TokenFactors> factors_of(int32_t chunk) {
    return shared_memory<TokenFactors>(stage_at(chunk) + factors_at);
  }
  DEVICE static Shared<float> last_decay(int32_t chunk) { return shared_memory<float>(stage_at(chunk) + last_at); }
  DEVICE static Shared<float2> sums() { return shared_memory<float2>(sums_at); }
  DEVICE static Shared<float> betas() { return shared_memory<float>(betas_at); }
  DEVICE static Shared<float> key_scales() { return shared_memory<float>(scales_at); }
  DEVICE static Shared<float> query_scales() { return key_scales() + chunk_tokens; }
  DEVICE static Shared<uint4> state_operand(int pair, int k) {
    return shared_memory<uint4>(state_operands_at + static_cast<uint32_t>(pair * (key_rows / 16) + k) * Operand::bytes);
  }
  DEVICE static Shared<uint4> new_operand(int pair, int k) {
    return shared_memory<uint4>(new_operands_at +
                                static_cast<uint32_t>(pair * (chunk_tokens / 16) + k) * Operand::bytes);
  }

  DEVICE static int lane() { return static_cast<int>(lane_index()); }
  // In the chunks' loops: where rows lie for this lane is computed in every chunk. Kept across them, it would take
  // registers that S and the rows on their way need.
  DEVICE static int own_lane() { return static_cast<int>(recomputed_lane_index()); }
  // B operands of two times eight rows out of 16 rows in shared memory from `row` on, columns [column, column + 16).
  template <int columns>
  DEVICE static void load_rows(uint32_t (&b)[4], SharedRows<Element, columns> from, int row, int column, int lane) {
    ldmatrix<4>(b, from.at(row + lane / 16 * 8 + lane % 8, column + lane / 8 % 2 * 8));
  }
  template <int count>
  DEVICE static void clear(float (&c)[count][4]) {
    UNROLL for (int i = 0; i < count; ++i) { UNROLL for (int j = 0; j < 4; ++j) c[i][j] = 0; }
  }

  // --- Warps 4 - 7: what does not depend on the state.

  // This thread's part of a chunk on its way from global to shared memory. Warp w has tokens 8 w + (0 .. 7), and
  // `lanes_a_row` lanes of it a row of k and q.
  static constexpr int lanes_a_row = key_rows / 8, rows_at_once = 32 / lanes_a_row, passes = 8 / rows_at_once;
  struct Rows {
    uint4 k[passes], q[passes];
    Element v[8];
    float a, b;  // of warp 0, a token a lane
  };

  DEVICE void prepare_chunks(const Block& block) const {
    const int warp = static_cast<int>(warp_index()) - 4;
    Rows rows = {};
    load(block, 0, warp, rows);
    for (int32_t chunk = 0; chunk < block.chunks; ++chunk) {
      stage(block, chunk, warp, rows);
      if (chunk + 1 < block.chunks) load(block, chunk + 1, warp, rows);
      sync_producers();
      multiply_rows(chunk, warp);
      sync_producers();
      if (warp == 0) invert(chunk);
      end_chunk();
    }
    end_chunk();
  }

  // Zeros for tokens beyond the span's, which neither decay nor change the state.
  DEVICE void load(const Block& block, int32_t chunk, int warp, Rows& rows) const {
    const int lane = own_lane();
    const int32_t first = chunk * chunk_tokens, own = first + warp * 8, key_token = own + lane / lanes_a_row;
    const int32_t column = lane % lanes_a_row * 8;
    const int64_t key_row = block.span.first_row + key_token, value_row = block.span.first_row + own;
    const auto k = p.k + (key_row * p.k_stride + p.key_column(block.head) + column);
    const auto q = p.q + (key_row * p.q_stride + p.key_column(block.head) + column);
    UNROLL for (int pass = 0; pass < passes; ++pass) {
      const int32_t after = pass * rows_at_once;
      rows.k[pass] = rows.q[pass] = uint4{0, 0, 0, 0};
      if (key_token + after >= block.span.rows || column >= static_cast<int32_t>(p.key_dim)) continue;
      rows.k[pass] = load_as<uint4>(k + after * p.k_stride);
      rows.q[pass] = load_as<uint4>(q + after * p.q_stride);
    }
    const uint32_t value = block.first_column + static_cast<uint32_t>(lane);
    const auto v = p.v + (value_row * p.v_stride + p.value_column(block.head) + value);
    UNROLL for (int i = 0; i < 8; ++i) {
      rows.v[i] = from_float<Element>(0);
      if (own + i < block.span.rows && value < p.value_dim) rows.v[i] = v[i * p.v_stride];
    }
    const int64_t gate_row = block.span.first_row + first + lane;
    if (warp > 0 || first + lane >= block.span.rows) return;
    rows.a = p.a[gate_row * p.a_stride + block.head];
    rows.b = p.b[gate_row * p.b_stride + block.head];
  }

  DEVICE void stage(const Block& block, int32_t chunk, int warp, const Rows& rows) const {
    const int lane = own_lane();
    UNROLL for (int pass = 0; pass < passes; ++pass) {
      const int token = warp * 8 + pass * rows_at_once + lane / lanes_a_row;
      stage_row(rows.k[pass], keys_of(chunk), token, lane, 1.0f, key_scales());
      stage_row(rows.q[pass], queries_of(chunk), token, lane, 1.0f / square_root(static_cast<float>(p.key_dim)),
                query_scales());
    }
    UNROLL for (int i = 0; i < 8; ++i) * square(chunk, v_at).at(warp * 8 + i, lane) = rows.v[i];
    if (warp > 0) return;
    const bool is_token = chunk * chunk_tokens + lane < block.span.rows;
    // exp(-1e4) is zero, and sums stay finite.
    float2 sum{is_token ? -min(p.rate_of(rows.a, block.head), 1e4f) : 0.0f, 0.0f};
    UNROLL for (int step = 1; step < chunk_tokens; step *= 2) {
      const float2 before{shuffle_up(sum.x, step), shuffle_up(sum.y, step)};
      if (lane >= step) sum = add_exactly(before, sum);
    }
    sums()[lane] = sum;
    betas()[lane] = is_token ? p.beta_of(rows.b) : 0.0f;
  }

  // A row times the power of two that brings its norm to [1, 2), and the rest of scale / norm into `scales`.
  DEVICE static void stage_row(const uint4& read, Keys to, int token, int lane, float scale, Shared<float> scales) {
    struct Words {
      uint32_t values[4];
    };
    Words words = bit_cast<Words>(read);
    float2 values[4];
    float squares = 0;
    UNROLL for (int i = 0; i < 4; ++i) {
      values[i] = to_float2(bit_cast<Pair<Element>>(words.values[i]));
      squares += values[i].x * values[i].x + values[i].y * values[i].y;
    }
    const float norm = square_root(warp_sum<lanes_a_row>(squares) + 1e-6f);
    const uint32_t exponent = min(bit_cast<uint32_t>(norm) >> 23, 253u);  // biased by 127; norm is positive
    const float down = bit_cast<float>((254 - exponent) << 23), up = bit_cast<float>(exponent << 23);
    UNROLL for (int i = 0; i < 4; ++i) {
      words.values[i] = bit_cast<uint32_t>(pair_from_floats<Element>(values[i].x * down, values[i].y * down));
    }
    store_as<uint4>(to.at(token, lane % lanes_a_row * 8), bit_cast<uint4>(words));
    if (lane % lanes_a_row == 0) scales[token] = scale * (up / norm);
  }

  // A and P: warps 0 and 1 have 16 rows of A each, warps 2 and 3 of P, and the columns up to the diagonal.
  DEVICE void multiply_rows(int32_t chunk, int warp) const {
    const int rows = warp % 2 * 16;
    const bool is_query = warp >= 2;
    const Keys keys = keys_of(chunk), left = is_query ? queries_of(chunk) : keys;
    float products[4][4];
    clear(products);
    UNROLL for (int k = 0; k < key_rows / 16; ++k) {
      uint32_t a[4];
      ldmatrix<4>(a, left.at(rows + lane() % 16, k * 16 + lane() / 16 * 8));
      UNROLL for (int pair = 0; pair < 2; ++pair) {
        if (pair * 16 > rows) continue;
        uint32_t b[4];
        load_rows(b, keys, pair * 16, k * 16, lane());
        mma_m16n8k16<Element>(products[2 * pair], a, {b[0], b[1]});
        mma_m16n8k16<Element>(products[2 * pair + 1], a, {b[2], b[3]});
      }
    }
    UNROLL for (int block = 0; block < 4; ++block) {
      if (block * 8 >= rows + 16) continue;
      UNROLL for (int half = 0; half < 2; ++half) {
        const int i = rows + lane() / 4 + 8 * half, j = block * 8 + lane() % 4 * 2;
        float* const two = products[block] + 2 * half;
        const float beta = betas()[i], row_scale = is_query ? float{query_scales()[i]} : beta * float{key_scales()[i]};
        UNROLL for (int n = 0; n < 2; ++n) {
          const bool seen = is_query ? j + n <= i : j + n < i;
          two[n] = seen ? two[n] * row_scale * float{key_scales()[j + n]} * exp(log_decay(j + n, i)) : 0.0f;
        }
        if (is_query) {
          const auto pair = split<Element>(two[0], two[1]);
          store_as<uint32_t>(square(chunk, p_at, 0).at(i, j), pair.high);
          store_as<uint32_t>(square(chunk, p_at, 1).at(i, j), pair.low);
        } else {
          const Shared<float> column = shared_memory<float>(a_at) + j * a_stride + i;
          column[0] = two[0];
          column[a_stride] = two[1];
        }
      }
    }
    if (warp != 2) return;
    const int token = lane();
    const float2 sum = sums()[token];
    const float begin = exp(sum.x + sum.y), key_scale = key_scales()[token], query_scale = query_scales()[token];
    const float beta = betas()[token];
    factors_of(chunk)[token] = {beta, beta * key_scale * begin, query_scale * begin,
                                key_scale * exp(log_decay(token, chunk_tokens - 1))};
    if (token == chunk_tokens - 1) *last_decay(chunk) = begin;
  }

  // Of the decay from after token j to token i.
  DEVICE static float log_decay(int j, int i) {
    const float2 before = sums()[j], sum = sums()[i];
    return (sum.x - before.x) + (sum.y - before.y);
  }

  // T by forward substitution, a column a lane. A row that is complete is taken off all rows below at once, so that
  // only 32 operations wait for each other.
  DEVICE void invert(int32_t chunk) const {
    float column[chunk_tokens];
    UNROLL for (int i = 0; i < chunk_tokens; ++i) column[i] = i == lane() ? 1.0f : 0.0f;
    UNROLL for (int j = 0; j < chunk_tokens; ++j) {
      UNROLL for (int i = (j + 1) / 4 * 4; i < chunk_tokens; i += 4) {
        const float4 a = load_as<float4>(shared_memory<const float>(a_at) + j * a_stride + i);
        if (i > j) column[i] -= a.x * column[j];
        if (i + 1 > j) column[i + 1] -= a.y * column[j];
        if (i + 2 > j) column[i + 2] -= a.z * column[j];
        column[i + 3] -= a.w * column[j];
      }
    }
    const Square high = square(chunk, t_at, 0), low = square(chunk, t_at, 1);
    UNROLL for (int i = 0; i < chunk_tokens; ++i) {
      const auto upper = from_float<Element>(column[i]);
      *high.at(i, lane()) = upper;
      *low.at(i, lane()) = from_float<Element>(column[i] - to_float(upper));
    }
  }

  // --- Warps 0 - 3: what depends on the state. Of an accumulator this lane has columns lane / 4 and lane / 4 + 8
  // (elements 0, 1 and 2, 3) and tokens or key rows 8 block + 2 (lane % 4) and the next one.

  static constexpr int token_blocks = chunk_tokens / 8, key_blocks = key_rows / 8;

  // sum += (S x)^T of the rows x of all tokens.
  DEVICE static void multiply_state(int pair, Keys rows, float (&sum)[token_blocks][4]) {
    const int lane = own_lane();
    UNROLL for (int k = 0; k < key_rows / 16; ++k) {
      const Operand s = Operand::load(state_operand(pair, k));
      uint32_t b[2][4];
      UNROLL for (int half = 0; half < 2; ++half) load_rows(b[half], rows, half * 16, k * 16, lane);
      UNROLL for (int block = 0; block < token_blocks; ++block) {
        mma_m16n8k16<Element>(sum[block], s.high, {b[block / 2][block % 2 * 2], b[block / 2][block % 2 * 2 + 1]});
      }
      UNROLL for (int block = 0; block < token_blocks; ++block) {
        mma_m16n8k16<Element>(sum[block], s.low, {b[block / 2][block % 2 * 2], b[block / 2][block % 2 * 2 + 1]});
      }
    }
  }

  // sum_i += sum over j of matrix_ij x_j, for a lower triangular matrix (T or P); x: two operands of 16 tokens.
  DEVICE static void multiply_triangle(const Operand (&x)[2], Square high, Square low, float (&sum)[token_blocks][4]) {
    const int lane = own_lane();
    UNROLL for (int k = 0; k < 2; ++k) {
      uint32_t b[2][4];
      const auto load = [&](Square from) {
        UNROLL for (int half = k; half < 2; ++half) load_rows(b[half], from, half * 16, k * 16, lane);
      };
      const auto multiply = [&](const uint32_t(&a)[4]) {
        UNROLL for (int i = 2 * k; i < token_blocks; ++i) {
          mma_m16n8k16<Element>(sum[i], a, {b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]});
        }
      };
      load(high);
      multiply(x[k].high);
      multiply(x[k].low);
      load(low);
      multiply(x[k].high);
    }
  }

  // Calls visit(accumulated, column, row) for all numbers of accumulators: of the first key rows or tokens of `blocks`.
  template <int blocks, class Visit>
  DEVICE static void each(float (&numbers)[blocks][4], int pair, const Visit& visit) {
    UNROLL for (int block = 0; block < blocks; ++block) {
      UNROLL for (int i = 0; i < 4; ++i) {
        visit(numbers[block][i], static_cast<uint32_t>(pair * pair_columns + lane() / 4 + i / 2 * 8),
              block * 8 + lane() % 4 * 2 + i % 2);
      }
    }
  }

  DEVICE void advance_state(const Block& block) const {
    const int pair = static_cast<int>(warp_index());
    const Global<float> stored = p.state_of(block.span, block.head);
    float s[key_blocks][4];
    each(s, pair, [&](float& number, uint32_t column, int row) {
      column += block.first_column;
      number = 0;
      if (block.span.past > 0 && column < p.value_dim && row < static_cast<int>(p.key_dim)) {
        number = stored[static_cast<int64_t>(row) * p.value_dim + column];
      }
    });
    store_operands(pair, s);
    end_chunk();
    for (int32_t chunk = 0; chunk < block.chunks; ++chunk) {
      float added[token_blocks][4];
      correct(chunk, pair, added);
      sync_pair(pair);  // N is there, and S has been read
      accumulate(chunk, added, s);
      store_operands(pair, s);
      end_chunk();
    }
    each(s, pair, [&](float& number, uint32_t column, int row) {
      column += block.first_column;
      if (column < p.value_dim && row < static_cast<int>(p.key_dim)) {
        stored[static_cast<int64_t>(row) * p.value_dim + column] = number;
      }
    });
  }

  DEVICE static void store_operands(int pair, const float (&s)[key_blocks][4]) {
    UNROLL for (int k = 0; k < key_rows / 16; ++k) Operand::of(s[2 * k], s[2 * k + 1]).store(state_operand(pair, k));
  }

  // added = N, also for the other warp.
  DEVICE void correct(int32_t chunk, int pair, float (&added)[token_blocks][4]) const {
    float lacking[token_blocks][4];
    clear(lacking);
    multiply_state(pair, keys_of(chunk), lacking);
    const int lane = own_lane();
    UNROLL for (int half = 0; half < 2; ++half) {
      uint32_t values[4];  // tokens 0 - 7 of columns 0 - 7 and 8 - 15, then tokens 8 - 15
      ldmatrix<4, true>(
          values, square(chunk, v_at).at(half * 16 + lane / 16 * 8 + lane % 8, pair * pair_columns + lane / 8 % 2 * 8));
      UNROLL for (int i = 0; i < 2; ++i) {
        float(&numbers)[4] = lacking[2 * half + i];
        const float2 low = to_float2(bit_cast<Pair<Element>>(values[2 * i]));
        const float2 high = to_float2(bit_cast<Pair<Element>>(values[2 * i + 1]));
        const int token = half * 16 + i * 8 + lane % 4 * 2;
        const TokenFactors first = factors_of(chunk)[token], second = factors_of(chunk)[token + 1];
        numbers[0] = first.beta * low.x - first.found * numbers[0];
        numbers[1] = second.beta * low.y - second.found * numbers[1];
        numbers[2] = first.beta * high.x - first.found * numbers[2];
        numbers[3] = second.beta * high.y - second.found * numbers[3];
      }
    }
    const Operand r[2] = {Operand::of(lacking[0], lacking[1]), Operand::of(lacking[2], lacking[3])};
    clear(added);
    multiply_triangle(r, square(chunk, t_at, 0), square(chunk, t_at, 1), added);
    UNROLL for (int k = 0; k < 2; ++k) Operand::of(added[2 * k], added[2 * k + 1]).store(new_operand(pair, k));
  }

  // S = exp(G_last) S + sum exp(G_last - G_i) k_i N_i.
  DEVICE void accumulate(int32_t chunk, float (&added)[token_blocks][4], float (&s)[key_blocks][4]) const {
    const int lane = own_lane();
    const float last = *last_decay(chunk);
    UNROLL for (int block = 0; block < key_blocks; ++block) { UNROLL for (int i = 0; i < 4; ++i) s[block][i] *= last; }
    each(added, 0, [&](float& number, uint32_t, int token) {
      const TokenFactors factors = factors_of(chunk)[token];
      number *= factors.kept;
    });
    UNROLL for (int k = 0; k < 2; ++k) {
      const Operand n = Operand::of(added[2 * k], added[2 * k + 1]);
      // Matrices of 8 tokens x 8 key rows: the left key rows' tokens 0-7 and 8-15, then the right ones'.
      UNROLL for (int pair = 0; pair < key_blocks / 2; ++pair) {
        uint32_t b[4];
        ldmatrix<4, true>(b, keys_of(chunk).at(k * 16 + lane % 16, pair * 16 + lane / 16 * 8));
        mma_m16n8k16<Element>(s[2 * pair], n.high, {b[0], b[1]});
        mma_m16n8k16<Element>(s[2 * pair + 1], n.high, {b[2], b[3]});
        mma_m16n8k16<Element>(s[2 * pair], n.low, {b[0], b[1]});
        mma_m16n8k16<Element>(s[2 * pair + 1], n.low, {b[2], b[3]});
      }
    }
  }

  DEVICE void write_outputs(const Block& block) const {
    const int pair = static_cast<int>(warp_index()) - 2;
    end_chunk();
    for (int32_t chunk = 0; chunk < block.chunks; ++chunk) {
      float read[token_blocks][4];
      clear(read);
      multiply_state(pair, queries_of(chunk), read);
      each(read, 0, [&](float& number, uint32_t, int token) {
        const TokenFactors factors = factors_of(chunk)[token];
        number *= factors.read;
      });
      sync_pair(pair);
      const Operand n[2] = {Operand::load(new_operand(pair, 0)), Operand::load(new_operand(pair, 1))};
      multiply_triangle(n, square(chunk, p_at, 0), square(chunk, p_at, 1), read);
      each(read, pair, [&](float& number, uint32_t column, int token) {
        const int32_t row = chunk * chunk_tokens + token;
        column += block.first_column;
        if (column >= p.value_dim || row >= block.span.rows) return;
        p.out[(block.span.first_row + row) * p.out_stride + p.value_column(block.head) + column] =
            from_float<Element>(number);
      });
      end_chunk();
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
