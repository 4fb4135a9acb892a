// The GEMM of linear.h: y^T = W x^T on tensor cores, with W dequantised between shared memory and registers.
//
// Work is cut into units: a tile of the result (Tile::tokens x Tile::outputs) times Tile::inputs of k. Units are
// numbered tile after tile, k fastest, and each block takes an equal run of them, wherever it begins and ends:
//
//            tile 0        tile 1        tile 2
//        k 0 ......... 0 ......... 0 .........        3 tiles of 10 units for 4 blocks: A and B share tile 0,
//          AAAAAAAABB    BBBBBCCCCC    CCDDDDDDDD     B and C tile 1, C and D tile 2
//
// so that all multiprocessors stop at the same time. The sums of a shared tile go into the workspace; whoever comes
// last adds them, in the order of k whoever that is, and leaves the tile's counter at zero. Nobody waits for another
// block.
//
// Inside a block a unit is a stage of shared memory, filled by cp.async some stages ahead of its use. Warps stand as
// warps_tokens x warps_outputs x warps_inputs: each multiplies a strip of 64 outputs by 8 * token_blocks tokens over
// `steps` k-blocks of the stage. Sums over the warps along k are made at the end of the tile.
//
// A group's scale multiplies the fp32 sum of a fold: the products over 32 inputs, or more where groups are longer.
#pragma once
#include <cstdint>

#include "marlin/dequantise.h"
#include "marlin/gemm_arguments.h"
#include "marlin/layout.h"
#include "marlin/tiles.h"
#include "primitives/async_copy.h"
#include "primitives/atomic.h"
#include "primitives/index.h"
#include "primitives/macros.h"
#include "primitives/math.h"
#include "primitives/mma.h"
#include "primitives/numbers.h"
#include "primitives/pointer.h"
#include "primitives/sync.h"

namespace billfish::BILLFISH_TARGET {

// Rows of 16-bit elements in shared memory, read by ldmatrix eight rows at a time: a column's 16-byte chunk stands at
// another place in each of eight rows, so that the eight reads meet eight different groups of banks.
template <int row_elements>
DEVICE uint32_t swizzled_byte(int row, int chunk) {
  return static_cast<uint32_t>((row * (row_elements / 8) + (chunk ^ (row & 7))) * 16);
}

// Waits until at most `pending` of this thread's groups of copies are on their way.
DEVICE void wait_for_copies(int pending) {
  switch (pending) {
    case 0:
      return cp_async_wait<0>();
    case 1:
      return cp_async_wait<1>();
    case 2:
      return cp_async_wait<2>();
    case 3:
      return cp_async_wait<3>();
    case 4:
      return cp_async_wait<4>();
    case 5:
      return cp_async_wait<5>();
    default:
      return cp_async_wait<6>();
  }
}

template <class Element, int bits, bool zero_points, class Tile>
struct Gemm {
  static constexpr int max_threads = Tile::threads, min_blocks = Tile::resident;
  static constexpr bool quantised = bits != 16;
  static constexpr int token_blocks = Tile::token_blocks, steps = Tile::steps;
  static constexpr int strips = Tile::warps_outputs, k_blocks = Tile::inputs / block_inputs;
  static constexpr int k_block_bytes = codes_block_bytes(bits);
  static constexpr int strip_bytes = k_blocks * k_block_bytes;  // of codes in a stage
  static constexpr int weight_bytes = strips * strip_bytes;
  static constexpr int x_bytes = Tile::tokens * Tile::inputs * 2;
  static constexpr int fold_steps = fold_inputs / block_inputs, folds = steps / fold_steps;
  static constexpr int most_groups = Tile::inputs / fold_inputs;  // that a stage meets

  GemmArguments arguments;

  // A unit, and where its tile lies.
  struct Cursor {
    int64_t unit;
    int tile, k;        // of k_tiles
    int token, target;  // the tile's first token
    int column;         // and its first output, within the target
  };

  DEVICE void operator()() const {
    const int64_t begin = first_unit(block_index().x), end = first_unit(block_index().x + 1);
    Cursor multiplying = cursor_at(begin), loading = multiplying;
    for (int stage = 0; stage + 1 < arguments.stages; ++stage) {
      if (loading.unit < end) load(loading, stage);
      cp_async_commit();
      advance(loading);
    }
    Totals totals = {};
    for (int stage = 0; multiplying.unit < end; advance(multiplying)) {
      wait_for_copies(arguments.stages - 2);
      sync_threads();  // all have this stage's copies, and have read the stage before it, which is filled next
      const int freed = (stage == 0 ? arguments.stages : stage) - 1;
      if (loading.unit < end) load(loading, freed);
      cp_async_commit();
      advance(loading);
      multiply(multiplying, stage, totals);
      stage = stage + 1 == arguments.stages ? 0 : stage + 1;
      if (multiplying.k + 1 == arguments.k_tiles || multiplying.unit + 1 == end) finish_tile(multiplying, totals);
    }
  }

  // --- Units. Block b has units [first_unit(b), first_unit(b + 1)).
  DEVICE int64_t first_unit(uint32_t block) const { return arguments.units * block / grid_size().x; }
  DEVICE uint32_t block_of(int64_t unit) const {
    return static_cast<uint32_t>(((unit + 1) * grid_size().x - 1) / arguments.units);
  }
  DEVICE Cursor cursor_at(int64_t unit) const {
    Cursor cursor;
    cursor.unit = unit;
    cursor.tile = static_cast<int>(unit / arguments.k_tiles);
    cursor.k = static_cast<int>(unit - int64_t{cursor.tile} * arguments.k_tiles);
    place_tile(cursor);
    return cursor;
  }
  DEVICE void advance(Cursor& cursor) const {
    ++cursor.unit;
    if (++cursor.k < arguments.k_tiles) return;
    cursor.k = 0;
    ++cursor.tile;
    place_tile(cursor);
  }
  DEVICE void place_tile(Cursor& cursor) const {
    const int column = cursor.tile / arguments.token_tiles;
    cursor.token = (cursor.tile - column * arguments.token_tiles) * Tile::tokens;
    cursor.target = 0;
    for (int i = 1; i < arguments.count; ++i) {
      if (column >= arguments.targets[i].first_column) cursor.target = i;
    }
    cursor.column = (column - arguments.targets[cursor.target].first_column) * Tile::outputs;
  }
  DEVICE int group_of(int fold) const {  // of the inputs [32 fold, 32 fold + 32)
    const auto group = static_cast<int>(static_cast<uint64_t>(fold) * arguments.group_factor >> 32);
    return min(group, arguments.groups - 1);  // beyond the last input there are zeros of x
  }

  // --- Shared memory.
  DEVICE Shared<uint8_t> stage_at(int stage) const {
    const uint32_t bytes =
        stage_bytes(Tile::tokens, Tile::outputs, Tile::inputs, bits, arguments.scale_bytes, zero_points);
    return shared_memory<uint8_t>(exchange_bytes(Tile::threads) + static_cast<uint32_t>(stage) * bytes);
  }
  static constexpr int x_place = weight_bytes, scale_place = weight_bytes + x_bytes;
  DEVICE int zero_place() const { return scale_place + most_groups * Tile::outputs * arguments.scale_bytes; }

  // --- Global to shared memory.
  DEVICE void load(const Cursor& unit, int stage) const {
    const Shared<uint8_t> to = stage_at(stage);
    const GemmTarget& target = arguments.targets[unit.target];
    if constexpr (quantised) {
      load_codes(target, unit, to);
      load_groups(target, unit, to);
    } else {
      load_rows(target, unit, to);
    }
    load_x(unit, to + x_place);
  }

  // Calls body(i) for i in [0, count), shared out over the block's threads.
  template <int count, class Body>
  DEVICE static void share_out(const Body& body) {
    const int thread = static_cast<int>(thread_index().x);
    UNROLL for (int first = 0; first < count; first += Tile::threads) {
      if (count - first >= Tile::threads || thread < count - first) body(first + thread);
    }
  }

  DEVICE void load_x(const Cursor& unit, Shared<uint8_t> to) const {
    constexpr int row_chunks = Tile::inputs / 8;
    share_out<Tile::tokens * row_chunks>([&](int i) {
      const int row = i / row_chunks, chunk = i % row_chunks;
      const int token = unit.token + row, k = unit.k * Tile::inputs + chunk * 8;
      const bool valid = token < arguments.rows && k < arguments.inputs;
      cp_async_or_zero<16>(to + swizzled_byte<Tile::inputs>(row, chunk),
                           arguments.x + (token * arguments.x_stride + k) * 2, valid);
    });
  }

  // A tile that sticks out beyond the target's outputs reads its last strip once more, or its last row.
  DEVICE int strip_of(const GemmTarget& target, const Cursor& unit, int strip) const {
    return min(unit.column / strip_outputs + strip, (target.columns - 1) / strip_outputs);
  }

  DEVICE void load_codes(const GemmTarget& target, const Cursor& unit, Shared<uint8_t> to) const {
    constexpr int strip_chunks = strip_bytes / 16;
    const CachePolicy policy = evict_first_policy();
    share_out<strips * strip_chunks>([&](int i) {
      const Global<const uint8_t> from = target.weights +
                                         strip_of(target, unit, i / strip_chunks) * target.weight_pitch +
                                         unit.k * strip_bytes + i % strip_chunks * 16;
      cp_async_16(to + i * 16, from, policy);
    });
  }

  // The scales and zero points of the groups that the stage meets: [group][strip][64].
  DEVICE void load_groups(const GemmTarget& target, const Cursor& unit, Shared<uint8_t> to) const {
    const int first = group_of(unit.k * most_groups);
    const int entries = (group_of((unit.k + 1) * most_groups - 1) - first + 1) * strips;
    const int scale_chunks = strip_outputs * arguments.scale_bytes / 16;
    constexpr int zero_chunks = strip_outputs / 16;
    auto entry_at = [&](int i) {
      return int64_t{strip_of(target, unit, i % strips)} * arguments.groups + first + i / strips;
    };
    const int thread = static_cast<int>(thread_index().x);
    for (int i = thread; i < entries * scale_chunks; i += Tile::threads) {
      const int64_t from = entry_at(i / scale_chunks) * scale_chunks + i % scale_chunks;
      cp_async<16>(to + scale_place + i * 16, target.scales + from * 16);
    }
    if constexpr (zero_points) {
      for (int i = thread; i < entries * zero_chunks; i += Tile::threads) {
        const int64_t from = entry_at(i / zero_chunks) * zero_chunks + i % zero_chunks;
        cp_async<16>(to + zero_place() + i * 16, target.zeros + from * 16);
      }
    }
  }

  DEVICE void load_rows(const GemmTarget& target, const Cursor& unit, Shared<uint8_t> to) const {
    constexpr int row_chunks = Tile::inputs / 8;
    const CachePolicy policy = evict_first_policy();
    share_out<Tile::outputs * row_chunks>([&](int i) {
      const int row = i / row_chunks, chunk = i % row_chunks;
      const int64_t output = min(unit.column + row, target.columns - 1);
      const Global<const uint8_t> from =
          target.weights + output * target.weight_pitch + (unit.k * Tile::inputs + chunk * 8) * 2;
      cp_async_16(to + swizzled_byte<Tile::inputs>(row, chunk), from, policy);
    });
  }

  // --- Shared memory to registers, and the products.
  struct Totals {
    float value[4][token_blocks][4];  // [16 outputs][8 tokens][of the fragment]
  };
  DEVICE static int lane() { return static_cast<int>(lane_index()); }
  DEVICE static int warp_token() { return static_cast<int>(warp_index()) % Tile::warps_tokens; }
  DEVICE static int warp_output() { return static_cast<int>(warp_index()) / Tile::warps_tokens % Tile::warps_outputs; }
  DEVICE static int warp_input() { return static_cast<int>(warp_index()) / (Tile::warps_tokens * Tile::warps_outputs); }

  // The B operands of 16 inputs by 8 * token_blocks tokens.
  DEVICE void load_x_fragments(Shared<const uint8_t> x, int k_block, uint32_t (&fragments)[token_blocks][2]) const {
    const int row = warp_token() * 8 * token_blocks + lane() % 8;
    if constexpr (token_blocks == 1) {
      ldmatrix<2>(fragments[0], x + swizzled_byte<Tile::inputs>(row, 2 * k_block + lane() / 8 % 2));
    } else {
      UNROLL for (int i = 0; i < token_blocks; i += 2) {
        uint32_t four[4];
        ldmatrix<4>(four, x + swizzled_byte<Tile::inputs>(row + (i + lane() / 16) * 8, 2 * k_block + lane() / 8 % 2));
        fragments[i][0] = four[0], fragments[i][1] = four[1];
        fragments[i + 1][0] = four[2], fragments[i + 1][1] = four[3];
      }
    }
  }

  DEVICE void multiply(const Cursor& unit, int stage, Totals& totals) const {
    const Shared<const uint8_t> from = stage_at(stage);
    const int first = warp_input() * steps;
    if constexpr (quantised) {
      UNROLL for (int fold = 0; fold < folds; ++fold) multiply_fold(unit, from, first + fold * fold_steps, totals);
    } else {
      UNROLL for (int step = 0; step < steps; ++step) multiply_elements(from, first + step, totals);
    }
  }

  // The k-blocks [k_block, k_block + fold_steps), which are of one group.
  DEVICE void multiply_fold(const Cursor& unit, Shared<const uint8_t> from, int k_block, Totals& totals) const {
    uint32_t x[fold_steps][token_blocks][2];
    uint32_t codes[fold_steps][4][bits / 4];
    UNROLL for (int step = 0; step < fold_steps; ++step) {
      load_x_fragments(from + x_place, k_block + step, x[step]);
      load_code_fragments(from + warp_output() * strip_bytes + (k_block + step) * k_block_bytes, codes[step]);
    }
    const int first_group = group_of(unit.k * most_groups);
    const int group = group_of(unit.k * most_groups + k_block / fold_steps) - first_group;
    const int entry = (group * strips + warp_output()) * strip_outputs + lane() / 4 * 8;
    float scales[8];
    load_scales(from + scale_place, entry, scales);
    uint2 zeros = {};
    if constexpr (zero_points) zeros = load_as<uint2>(from + zero_place() + entry);

    UNROLL for (int tile = 0; tile < 4; ++tile) {
      ZeroPoints zero = Dequantiser<Element, bits>::centre;
      if constexpr (zero_points) {
        zero = Dequantiser<Element, bits>::prepare(tile < 2 ? zeros.x : zeros.y, tile % 2);
      }
      float sums[token_blocks][4] = {};
      UNROLL for (int step = 0; step < fold_steps; ++step) {
        uint32_t a[4];
        Dequantiser<Element, bits>::template convert<zero_points>(codes[step][tile], zero, a);
        UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[i], a, x[step][i]);
      }
      UNROLL for (int i = 0; i < token_blocks; ++i) {
        UNROLL for (int j = 0; j < 4; ++j) {
          float& total = totals.value[tile][i][j];
          total = fused_multiply_add(scales[2 * tile + j / 2], sums[i][j], total);
        }
      }
    }
  }

  DEVICE static void load_code_fragments(Shared<const uint8_t> from, uint32_t (&codes)[4][bits / 4]) {
    UNROLL for (int i = 0; i < bits / 4; ++i) {
      const uint4 four = load_as<uint4>(from + i * 512 + lane() * 16);
      if constexpr (bits == 4) {
        codes[0][0] = four.x, codes[1][0] = four.y, codes[2][0] = four.z, codes[3][0] = four.w;
      } else {
        codes[2 * i][0] = four.x, codes[2 * i][1] = four.y, codes[2 * i + 1][0] = four.z, codes[2 * i + 1][1] = four.w;
      }
    }
  }

  // The eight scales from `entry` on.
  DEVICE void load_scales(Shared<const uint8_t> from, int entry, float (&scales)[8]) const {
    if (arguments.scale_type == DType::f32) {
      UNROLL for (int i = 0; i < 2; ++i) {
        const float4 four = load_as<float4>(from + entry * 4 + i * 16);
        scales[4 * i] = four.x, scales[4 * i + 1] = four.y, scales[4 * i + 2] = four.z, scales[4 * i + 3] = four.w;
      }
      return;
    }
    const uint4 eight = load_as<uint4>(from + entry * 2);
    const uint32_t pairs[4] = {eight.x, eight.y, eight.z, eight.w};
    UNROLL for (int i = 0; i < 4; ++i) {
      const float2 two = arguments.scale_type == DType::f16 ? to_float2(bit_cast<half2>(pairs[i]))
                                                            : to_float2(bit_cast<bfloat162>(pairs[i]));
      scales[2 * i] = two.x, scales[2 * i + 1] = two.y;
    }
  }

  DEVICE void multiply_elements(Shared<const uint8_t> from, int k_block, Totals& totals) const {
    uint32_t x[token_blocks][2];
    load_x_fragments(from + x_place, k_block, x);
    const int row = warp_output() * strip_outputs + lane() % 16, chunk = 2 * k_block + lane() / 16;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      uint32_t a[4];
      ldmatrix<4>(a, from + swizzled_byte<Tile::inputs>(row + tile * 16, chunk));
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(totals.value[tile][i], a, x[i]);
    }
  }

  // --- The end of a tile, or of this block's part of it: `unit` is its last.
  DEVICE void finish_tile(const Cursor& unit, Totals& totals) const {
    const int64_t tile_begin = int64_t{unit.tile} * arguments.k_tiles;
    const uint32_t first = block_of(tile_begin), last = block_of(tile_begin + arguments.k_tiles - 1);
    const bool alone = first == last;
    UNROLL for (int i = 0; i < token_blocks; ++i) {
      if (i > 0) sync_threads();  // the exchange has been read
      exchange(totals, i, [&](int row, int output, float4 sum) {
        if (unit.token + row >= arguments.rows) return;
        if (alone) {
          write(unit, row, output, sum);
        } else {
          store_as<float4>(partial(block_index().x, first, row, output), sum);
        }
      });
    }
    totals = {};
    if (!alone) add_partials(unit, first, last);
  }

  // Sums the warps along k over their i-th eight tokens; calls body(row of the tile, first output, four sums).
  template <class Body>
  DEVICE void exchange(const Totals& totals, int i, const Body& body) const {
    const Shared<float> mine = shared_memory<float>() + warp_index() * exchange_floats;
    const int g = lane() / 4, t = lane() % 4;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      UNROLL for (int j = 0; j < 4; ++j) {
        mine[(2 * t + j % 2) * exchange_pitch + tile * 16 + j / 2 * 8 + g] = totals.value[tile][i][j];
      }
    }
    sync_threads();
    constexpr int row_fours = Tile::outputs / 4;
    share_out<8 * Tile::warps_tokens * row_fours>([&](int four) {
      const int row = four / row_fours, output = four % row_fours * 4;
      const int warp = output / strip_outputs * Tile::warps_tokens + row / 8;
      float4 sum = {};
      UNROLL for (int w = 0; w < Tile::warps_inputs; ++w) {
        const int owner = w * Tile::warps_tokens * Tile::warps_outputs + warp;
        sum = plus(sum, load_as<float4>(shared_memory<float>() + owner * exchange_floats + row % 8 * exchange_pitch +
                                        output % strip_outputs));
      }
      body(row / 8 * 8 * token_blocks + i * 8 + row % 8, output, sum);
    });
  }
  DEVICE static float4 plus(const float4& a, const float4& b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

  // Where a block keeps its sums of a tile that begins in block `first`: only its last tile can begin in itself.
  DEVICE Global<float> partial(uint32_t block, uint32_t first, int row, int output) const {
    const int64_t slot = 2 * int64_t{block} + (block == first ? 1 : 0);
    return arguments.partials + (slot * Tile::tokens + row) * Tile::outputs + output;
  }

  DEVICE void add_partials(const Cursor& unit, uint32_t first, uint32_t last) const {
    const Global<int32_t> counter = arguments.counters + first;
    const Shared<int32_t> came = shared_memory<int32_t>();
    fence_device();
    sync_threads();
    if (thread_index().x == 0) came[0] = atomic_add(counter, 1);
    sync_threads();
    const int32_t before = came[0];
    if (before != static_cast<int32_t>(last - first)) return;
    fence_device();
    if (thread_index().x == 0) counter[0] = 0;
    constexpr int row_fours = Tile::outputs / 4;
    for (int four = static_cast<int>(thread_index().x); four < Tile::tokens * row_fours; four += Tile::threads) {
      const int row = four / row_fours, output = four % row_fours * 4;
      if (unit.token + row >= arguments.rows) continue;
      float4 sum = {};
      for (uint32_t block = first; block <= last; ++block) {
        sum = plus(sum, load_coherent<float4>(partial(block, first, row, output)));
      }
      write(unit, row, output, sum);
    }
  }

  DEVICE void write(const Cursor& unit, int row, int output, const float4& sum) const {
    const GemmTarget& target = arguments.targets[unit.target];
    const int column = unit.column + output, rest = target.columns - column;
    float values[4] = {sum.x, sum.y, sum.z, sum.w};
    UNROLL for (int i = 0; i < 4; ++i) {
      if (target.bias && i < rest) values[i] += load_readonly<float>(target.bias + column + i);
    }
    const int64_t at = (unit.token + row) * target.out_stride + column;
    if (target.out_is_float) {
      write_four(pointer_cast<float>(target.out) + at, values, rest, target.wide);
    } else {
      write_four(pointer_cast<Element>(target.out) + at, values, rest, target.wide);
    }
  }
  template <class T>
  struct alignas(4 * sizeof(T)) Four {
    T value[4];
  };
  template <class T>
  DEVICE static void write_four(Global<T> to, const float (&values)[4], int rest, bool wide) {
    if (wide && rest >= 4) {
      store_as<Four<T>>(
          to, {from_float<T>(values[0]), from_float<T>(values[1]), from_float<T>(values[2]), from_float<T>(values[3])});
      return;
    }
    UNROLL for (int i = 0; i < 4; ++i) {
      if (i < rest) to[i] = from_float<T>(values[i]);
    }
  }
};

}  // namespace billfish::BILLFISH_TARGET
