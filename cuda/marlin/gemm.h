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
// A group's scale multiplies the fp32 sum of a fold, the products over 32 inputs. For few tokens, where instructions
// and not tensor cores are short, sums are over raw codes and corrected by an mma (dequantise.h); for many, codes are
// made exact before they are multiplied.
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
  static constexpr bool corrected = token_blocks <= 2;
  static constexpr int strips = Tile::warps_outputs, k_blocks = Tile::inputs / block_inputs;
  static constexpr int k_block_bytes = codes_block_bytes(bits);
  static constexpr int strip_bytes = k_blocks * k_block_bytes;  // of codes in a stage
  static constexpr int weight_bytes = Tile::outputs * Tile::inputs * bits / 8;
  static constexpr int x_bytes = Tile::tokens * Tile::inputs * 2;
  static constexpr int row_chunks = Tile::inputs / 8;  // of 16 bytes, in a row of x or of 16-bit weights
  static constexpr int weight_chunks = ceil_div(weight_bytes / 16, Tile::threads);  // a thread
  static constexpr int x_chunks = ceil_div(x_bytes / 16, Tile::threads);
  static constexpr int fold_steps = fold_inputs / block_inputs, folds = steps / fold_steps;
  static constexpr int most_groups = Tile::inputs / fold_inputs;  // that a stage meets

  GemmArguments arguments;

  DEVICE void operator()() const {
    const uint32_t begin = first_unit(block_index().x), end = first_unit(block_index().x + 1);
    Loader loader(*this, begin, end);
    for (int stage = 0; stage + 1 < arguments.stages; ++stage) loader.next(*this);

    Totals totals = {};
    int tile = static_cast<int>(begin) / arguments.k_tiles, k = static_cast<int>(begin) % arguments.k_tiles;
    int first_k = k;  // of this tile, here
    uint32_t stage = stages_place;
    for (uint32_t unit = begin; unit < end; ++unit) {
      wait_for_copies(arguments.stages - 2);
      sync_threads();  // all have this stage's copies, and have read the stage before it, which is filled next
      loader.next(*this);
      multiply(stage, k, totals);
      stage = stage_after(stage);
      if (++k < arguments.k_tiles && unit + 1 < end) continue;
      finish_tile(tile, first_k, k, totals);
      first_k = k = 0;
      ++tile;
    }
  }

  // --- Units and tiles. Block b has units [first_unit(b), first_unit(b + 1)).
  DEVICE uint32_t first_unit(uint32_t block) const { return arguments.units * block / grid_size().x; }
  DEVICE uint32_t block_of(uint32_t unit) const { return ((unit + 1) * grid_size().x - 1) / arguments.units; }

  struct TilePlace {
    int token, target, column;  // the first token, and the first output of the target
  };
  DEVICE TilePlace place_of(int tile) const {
    const int column = tile / arguments.token_tiles;
    TilePlace place = {(tile - column * arguments.token_tiles) * Tile::tokens, 0, 0};
    for (int i = 1; i < arguments.count; ++i) {
      if (column >= arguments.targets[i].first_column) place.target = i;
    }
    place.column = (column - arguments.targets[place.target].first_column) * Tile::outputs;
    return place;
  }
  // A tile that sticks out beyond the target's outputs reads its last strip once more, or its last row.
  DEVICE static int strip_of(const GemmTarget& target, const TilePlace& place, int strip) {
    return min(place.column / strip_outputs + strip, (target.columns - 1) / strip_outputs);
  }
  // Of the inputs [32 fold, 32 fold + 32): (fold + 1/2) / folds of a group, rounded down, by a multiplication.
  DEVICE int group_of(int fold) const {
    const uint64_t product = static_cast<uint64_t>(static_cast<uint32_t>(2 * fold + 1)) * arguments.group_factor;
    return min(static_cast<int>(product >> 32), arguments.groups - 1);  // beyond the last input there are zeros of x
  }

  // --- Shared memory: the exchange, then stages of [weights][x][scales][zeros].
  static constexpr uint32_t stages_place = exchange_bytes(Tile::threads);
  DEVICE uint32_t stage_after(uint32_t stage) const {
    const uint32_t next = stage + arguments.stage_bytes;
    return next == stages_place + static_cast<uint32_t>(arguments.stages) * arguments.stage_bytes ? stages_place : next;
  }
  static constexpr uint32_t x_place = weight_bytes, scale_place = weight_bytes + x_bytes;
  DEVICE uint32_t zero_place() const {
    return scale_place + static_cast<uint32_t>(most_groups * Tile::outputs * arguments.scale_bytes);
  }

  // --- Global to shared memory: stage after stage, this thread's part of each. What does not change within a tile is
  // worked out where the tile begins.
  struct Loader {
    DEVICE Loader(const Gemm& gemm, uint32_t begin, uint32_t end)
        : units(static_cast<int>(end - begin)),
          tile(static_cast<int>(begin) / gemm.arguments.k_tiles),
          k(static_cast<int>(begin) % gemm.arguments.k_tiles),
          stage(stages_place),
          policy(evict_first_policy()) {
      begin_tile(gemm);
    }

    DEVICE void next(const Gemm& gemm) {
      if (units > 0) {
        load(gemm);
        --units;
        if (++k == gemm.arguments.k_tiles) {
          k = 0;
          ++tile;
          if (units > 0) begin_tile(gemm);
        }
        stage = gemm.stage_after(stage);
      }
      cp_async_commit();
    }

    DEVICE void begin_tile(const Gemm& gemm) {
      const GemmArguments& arguments = gemm.arguments;
      const TilePlace place = gemm.place_of(tile);
      const GemmTarget& target = arguments.targets[place.target];
      weights = target.weights;
      weight_pitch = target.weight_pitch;
      UNROLL for (int i = 0; i < weight_chunks; ++i) {
        const int chunk = thread() + i * Tile::threads;
        if constexpr (quantised) {
          const int strip = strip_of(target, place, chunk / (strip_bytes / 16));
          weight_offset[i] = static_cast<uint32_t>(strip) * weight_pitch;
        } else {
          const int row = min(place.column + chunk / row_chunks, target.columns - 1);
          weight_offset[i] = static_cast<uint32_t>(row) * weight_pitch;
        }
      }
      valid_rows = 0;
      UNROLL for (int i = 0; i < x_chunks; ++i) {
        const int chunk = thread() + i * Tile::threads, token = place.token + chunk / row_chunks;
        x_offset[i] = static_cast<uint32_t>(token) * arguments.x_pitch + chunk % row_chunks * 16;
        if (token < arguments.rows) valid_rows |= 1u << i;
      }
      if constexpr (quantised) {
        scales = target.scales;
        zeros = target.zeros;
        const auto groups = static_cast<uint32_t>(arguments.groups);
        scale_offset = (static_cast<uint32_t>(strip_of(target, place, entry_of(scale_shift(gemm)) % strips)) * groups)
                       << scale_shift(gemm);
        zero_offset = (static_cast<uint32_t>(strip_of(target, place, entry_of(zero_shift) % strips)) * groups)
                      << zero_shift;
      }
    }

    DEVICE void load(const Gemm& gemm) {
      const GemmArguments& arguments = gemm.arguments;
      const Shared<uint8_t> to = shared_memory<uint8_t>(stage);
      constexpr int weight_step = quantised ? strip_bytes : Tile::inputs * 2;
      UNROLL for (int i = 0; i < weight_chunks; ++i) {
        const int chunk = thread() + i * Tile::threads;
        const int row = chunk / row_chunks, within = chunk % (quantised ? strip_bytes / 16 : row_chunks);
        const uint32_t at = quantised ? chunk * 16 : swizzled_byte<Tile::inputs>(row, within);
        if (weight_bytes / 16 % Tile::threads != 0 && chunk >= weight_bytes / 16) break;
        // Beyond the last input any weights will do, for x is zero there.
        const uint32_t along = min(static_cast<uint32_t>(k * weight_step + within * 16), weight_pitch - 16);
        cp_async_16(to + at, weights + (weight_offset[i] + along), policy);
      }
      UNROLL for (int i = 0; i < x_chunks; ++i) {
        const int chunk = thread() + i * Tile::threads;
        if (x_bytes / 16 % Tile::threads != 0 && chunk >= x_bytes / 16) break;
        const bool valid = (valid_rows >> i & 1) != 0 && k * Tile::inputs + chunk % row_chunks * 8 < arguments.inputs;
        cp_async_or_zero<16>(to + x_place + swizzled_byte<Tile::inputs>(chunk / row_chunks, chunk % row_chunks),
                             arguments.x + (x_offset[i] + static_cast<uint32_t>(k * Tile::inputs * 2)), valid);
      }
      if constexpr (quantised) load_groups(gemm, to);
    }

    // The scales and zero points of the groups that the stage meets, [group][strip][64]: one 16-byte chunk a thread.
    static constexpr int zero_shift = 2;  // 64 zeros have 1 << 2 chunks
    DEVICE static int scale_shift(const Gemm& gemm) { return gemm.arguments.scale_bytes == 4 ? 4 : 3; }
    DEVICE static int entry_of(int shift) { return thread() >> shift; }  // group * strips + strip
    DEVICE void load_groups(const Gemm& gemm, Shared<uint8_t> to) const {
      static_assert(most_groups * strips * strip_outputs * 4 <= 16 * Tile::threads);
      const int first = gemm.group_of(k * most_groups), last = gemm.group_of(k * most_groups + most_groups - 1);
      load_entries(first, last, scale_shift(gemm), scales, scale_offset, to + scale_place);
      if constexpr (zero_points) load_entries(first, last, zero_shift, zeros, zero_offset, to + gemm.zero_place());
    }
    DEVICE static void load_entries(int first, int last, int shift, Global<const uint8_t> from, uint32_t offset,
                                    Shared<uint8_t> to) {
      const int group = first + entry_of(shift) / strips, within = thread() & ((1 << shift) - 1);
      if (group > last) return;
      const uint32_t chunk = offset + (static_cast<uint32_t>(group) << shift) + within;
      cp_async<16>(to + thread() * 16, from + chunk * 16);
    }

    DEVICE static int thread() { return static_cast<int>(thread_index().x); }

    int units, tile, k;  // units left; the next one's tile, and its place along k
    uint32_t stage;      // where it goes in shared memory
    CachePolicy policy;
    Global<const uint8_t> weights, scales, zeros;
    uint32_t weight_pitch, weight_offset[weight_chunks], x_offset[x_chunks], valid_rows;  // bytes; bits
    uint32_t scale_offset, zero_offset;                                                   // chunks of 16 bytes
  };

  // --- Shared memory to registers, and the products.
  struct Totals {
    float value[4][token_blocks][4];  // [16 outputs][8 tokens][of the fragment]
  };
  DEVICE static int lane() { return static_cast<int>(lane_index()); }
  DEVICE static int warp_token() { return static_cast<int>(warp_index()) % Tile::warps_tokens; }
  DEVICE static int warp_output() { return static_cast<int>(warp_index()) / Tile::warps_tokens % Tile::warps_outputs; }
  DEVICE static int warp_input() { return static_cast<int>(warp_index()) / (Tile::warps_tokens * Tile::warps_outputs); }

  // The B operands of 16 inputs by 8 * token_blocks tokens.
  DEVICE static void load_x(Shared<const uint8_t> x, int k_block, uint32_t (&fragments)[token_blocks][2]) {
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

  DEVICE void multiply(uint32_t stage, int k, Totals& totals) const {
    const Shared<const uint8_t> from = shared_memory<uint8_t>(stage);
    const int first = warp_input() * steps;
    if constexpr (quantised) {
      UNROLL for (int fold = 0; fold < folds; ++fold) multiply_fold(from, k, first + fold * fold_steps, totals);
    } else {
      UNROLL for (int step = 0; step < steps; ++step) multiply_elements(from, first + step, totals);
    }
  }

  // The k-blocks [k_block, k_block + fold_steps) of a stage, which are of one group.
  DEVICE void multiply_fold(Shared<const uint8_t> from, int k, int k_block, Totals& totals) const {
    uint32_t x[fold_steps][token_blocks][2];
    uint32_t codes[fold_steps][4][bits / 4];
    UNROLL for (int step = 0; step < fold_steps; ++step) {
      load_x(from + x_place, k_block + step, x[step]);
      load_codes(from + warp_output() * strip_bytes + (k_block + step) * k_block_bytes, codes[step]);
    }
    const int group = group_of(k * most_groups + k_block / fold_steps) - group_of(k * most_groups);
    const int entry = (group * strips + warp_output()) * strip_outputs + lane() / 4 * 8;
    float scales[8];
    load_scales(from + scale_place, entry, scales);
    uint2 zeros = {};
    if constexpr (zero_points) zeros = load_as<uint2>(from + zero_place() + entry);

    using Codes = Dequantiser<Element, bits>;
    float central[token_blocks][4] = {};
    if constexpr (corrected && !zero_points && !Codes::centred) correct(Codes::central_correction, x, central);
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      float sums[token_blocks][4];
      UNROLL for (int i = 0; i < token_blocks; ++i) { UNROLL for (int j = 0; j < 4; ++j) sums[i][j] = central[i][j]; }
      ZeroPoints zero = Codes::centre;
      if constexpr (zero_points) {
        const uint32_t four = tile < 2 ? zeros.x : zeros.y;
        if constexpr (corrected) {
          correct(Codes::correction(four, tile % 2), x, sums);
        } else {
          zero = Codes::prepare(four, tile % 2);
        }
      }
      UNROLL for (int step = 0; step < fold_steps; ++step) {
        uint32_t a[4];
        if constexpr (corrected) {
          Codes::raw(codes[step][tile], a);
        } else {
          Codes::template convert<zero_points>(codes[step][tile], zero, a);
        }
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

  // Adds a number for each output times the sum of x.
  DEVICE static void correct(ZeroPoints number, const uint32_t (&x)[fold_steps][token_blocks][2],
                             float (&sums)[token_blocks][4]) {
    const uint32_t a[4] = {number.lower, number.upper, number.lower, number.upper};
    UNROLL for (int step = 0; step < fold_steps; ++step) {
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(sums[i], a, x[step][i]);
    }
  }

  DEVICE static void load_codes(Shared<const uint8_t> from, uint32_t (&codes)[4][bits / 4]) {
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

  DEVICE static void multiply_elements(Shared<const uint8_t> from, int k_block, Totals& totals) {
    uint32_t x[token_blocks][2];
    load_x(from + x_place, k_block, x);
    const int row = warp_output() * strip_outputs + lane() % 16, chunk = 2 * k_block + lane() / 16;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      uint32_t a[4];
      ldmatrix<4>(a, from + swizzled_byte<Tile::inputs>(row + tile * 16, chunk));
      UNROLL for (int i = 0; i < token_blocks; ++i) mma_m16n8k16<Element>(totals.value[tile][i], a, x[i]);
    }
  }

  // --- The end of a tile, or of this block's part of it: units [first_k, end_k) of it are in `totals`.
  DEVICE void finish_tile(int tile, int first_k, int end_k, Totals& totals) const {
    const TilePlace place = place_of(tile);
    const bool alone = first_k == 0 && end_k == arguments.k_tiles;
    uint32_t first = block_index().x, last = first;
    if (!alone) {
      const uint32_t begin = static_cast<uint32_t>(tile) * static_cast<uint32_t>(arguments.k_tiles);
      first = block_of(begin);
      last = block_of(begin + static_cast<uint32_t>(arguments.k_tiles) - 1);
    }
    UNROLL for (int i = 0; i < token_blocks; ++i) {
      if (i > 0) sync_threads();  // the exchange has been read
      exchange(totals, i, [&](int row, int output, float4 sum) {
        if (place.token + row >= arguments.rows) return;
        if (alone) {
          write(place, row, output, sum);
        } else {
          store_as<float4>(partial(block_index().x, first, row, output), sum);
        }
      });
    }
    totals = {};
    if (!alone) add_partials(place, first, last);
  }

  // Sums the warps along k over their i-th eight tokens; calls body(row of the tile, first output, four sums).
  template <class Body>
  DEVICE static void exchange(const Totals& totals, int i, const Body& body) {
    const Shared<float> mine = shared_memory<float>() + warp_index() * exchange_floats;
    const int g = lane() / 4, t = lane() % 4;
    UNROLL for (int tile = 0; tile < 4; ++tile) {
      UNROLL for (int j = 0; j < 4; ++j) {
        float value = totals.value[tile][i][j];
        if constexpr (quantised && corrected) {
          using Codes = Dequantiser<Element, bits>;
          value *= j / 2 == 0 ? 1 / Codes::lower_unit : 1 / Codes::upper_unit;
        }
        mine[(2 * t + j % 2) * exchange_pitch + tile * 16 + j / 2 * 8 + g] = value;
      }
    }
    sync_threads();
    constexpr int row_fours = Tile::outputs / 4, fours = 8 * Tile::warps_tokens * row_fours;
    for (int four = static_cast<int>(thread_index().x); four < fours; four += Tile::threads) {
      const int row = four / row_fours, output = four % row_fours * 4;
      const int warp = output / strip_outputs * Tile::warps_tokens + row / 8;
      float4 sum = {};
      UNROLL for (int w = 0; w < Tile::warps_inputs; ++w) {
        const int owner = w * Tile::warps_tokens * Tile::warps_outputs + warp;
        sum = plus(sum, load_as<float4>(shared_memory<float>() + owner * exchange_floats + row % 8 * exchange_pitch +
                                        output % strip_outputs));
      }
      body(row / 8 * 8 * token_blocks + i * 8 + row % 8, output, sum);
    }
  }
  DEVICE static float4 plus(const float4& a, const float4& b) { return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w}; }

  // Where a block keeps its sums of a tile that begins in block `first`: only its last tile can begin in itself.
  DEVICE Global<float> partial(uint32_t block, uint32_t first, int row, int output) const {
    const int64_t slot = 2 * int64_t{block} + (block == first ? 1 : 0);
    return arguments.partials + (slot * Tile::tokens + row) * Tile::outputs + output;
  }

  DEVICE void add_partials(const TilePlace& place, uint32_t first, uint32_t last) const {
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
      if (place.token + row >= arguments.rows) continue;
      float4 sum = {};
      for (uint32_t block = first; block <= last; ++block) {
        sum = plus(sum, load_coherent<float4>(partial(block, first, row, output)));
      }
      write(place, row, output, sum);
    }
  }

  DEVICE void write(const TilePlace& place, int row, int output, const float4& sum) const {
    const GemmTarget& target = arguments.targets[place.target];
    const int column = place.column + output, rest = target.columns - column;
    float values[4] = {sum.x, sum.y, sum.z, sum.w};
    UNROLL for (int i = 0; i < 4; ++i) {
      if (target.bias && i < rest) values[i] += load_readonly<float>(target.bias + column + i);
    }
    const int64_t at = (place.token + row) * target.out_stride + column;
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
