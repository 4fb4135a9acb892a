// The tiles that the GEMM is compiled for, and the cost model that picks one.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cuda/memory/linear_layout.h"
#include "gemm/layout.h"
#include "primitives/macros.h"

namespace billfish {
struct GemmTuning;
}

namespace billfish::BILLFISH_TARGET {

template <int token_blocks_, int warps_tokens_, int warps_outputs_, int warps_inputs_, int steps_, int resident_>
struct TileOf {
  static constexpr int token_blocks = token_blocks_;  // per warp, of 8 tokens each
  static constexpr int warps_tokens = warps_tokens_, warps_outputs = warps_outputs_, warps_inputs = warps_inputs_;
  static constexpr int steps = steps_;        // k-blocks of a stage per warp
  static constexpr int resident = resident_;  // resident blocks per multiprocessor that registers allow
  static constexpr int threads = 32 * warps_tokens * warps_outputs * warps_inputs;
  static constexpr int tokens = 8 * token_blocks * warps_tokens;
  static constexpr int outputs = 64 * warps_outputs;
  static constexpr int inputs = 16 * warps_inputs * steps;
};

// A tile's dimensions at run time.
struct TileShape {
  int tokens, outputs, inputs, threads, resident;
  bool bulk;  // of bulk_gemm.h, whose blocks have an extra producer warp
};
template <class Tile, bool bulk>
constexpr TileShape shape_of() {
  return {Tile::tokens, Tile::outputs, Tile::inputs, Tile::threads, Tile::resident, bulk};
}

template <bool bulk, class... Tiles>
struct TileList {
  static constexpr int count = sizeof...(Tiles);
  static constexpr TileShape shapes[] = {shape_of<Tiles, bulk>()...};

  // Calls body.template operator()<Tile>() for the tile with this index.
  template <class Body>
  static void visit(int index, const Body& body) {
    int i = 0;
    ((i++ == index ? body.template operator()<Tiles>() : void()), ...);
  }
};

//                        tokens x outputs x inputs of a stage
using QuantizedTiles = TileList<false, TileOf<1, 1, 1, 16, 2, 1>,  //   8 x  64 x 512, for tiles that no blocks share
                                TileOf<1, 1, 2, 4, 4, 2>,          //   8 x 128 x 256
                                TileOf<1, 1, 2, 4, 2, 2>,          //   8 x 128 x 128
                                TileOf<2, 1, 2, 4, 2, 2>,          //  16 x 128 x 128
                                TileOf<4, 1, 2, 4, 2, 1>,          //  32 x 128 x 128
                                TileOf<4, 2, 2, 2, 2, 1>,          //  64 x 128 x  64
                                TileOf<4, 4, 2, 1, 4, 1>>;         // 128 x 128 x  64
// 16-bit weights have four times the bytes of 4-bit ones, so their stages cover less of k.
using ElementTiles = TileList<false, TileOf<1, 1, 1, 16, 1, 1>,  //   8 x  64 x 256
                              TileOf<1, 1, 2, 4, 1, 2>,          //   8 x 128 x  64
                              TileOf<2, 1, 2, 4, 1, 2>,          //  16 x 128 x  64
                              TileOf<4, 1, 2, 4, 1, 1>,          //  32 x 128 x  64
                              TileOf<4, 2, 2, 2, 2, 1>,          //  64 x 128 x  64
                              TileOf<4, 4, 2, 1, 4, 1>,          // 128 x 128 x  64
                              TileOf<8, 2, 4, 1, 4, 1>>;         // 128 x 256 x  64

// Quantized weights and few tokens, on sm_90 and later (bulk_gemm.h). A warp has 4 KB of codes per stage, to amortize
// the stage's overhead. Wide tiles share x among more outputs.
template <int bits>
using BulkTiles = TileList<true, TileOf<1, 1, 1, 8, 32 / bits, 1>,  //   8 x  64 x 1024 with 4 bits, half with 8
                           TileOf<1, 1, 2, 4, 32 / bits, 1>,        //   8 x 128 x  512
                           TileOf<1, 1, 4, 2, 32 / bits, 1>,        //   8 x 256 x  256
                           TileOf<2, 1, 2, 4, 4, 1>,                //  16 x 128 x  256 with either
                           TileOf<2, 1, 4, 2, 4, 1>>;               //  16 x 256 x  128

// Experts' linears: an expert has few of the tokens. The four of the lists above that differ in tokens.
template <int bits>
using GroupedTiles = TileList<false, TileOf<1, 1, 2, 4, bits == 16 ? 1 : 2, 2>,  //   8 x 128 x 128, of 16 bits 64
                              TileOf<2, 1, 2, 4, bits == 16 ? 1 : 2, 2>,         //  16 x 128 x 128
                              TileOf<4, 1, 2, 4, bits == 16 ? 1 : 2, 1>,         //  32 x 128 x 128
                              TileOf<4, 2, 2, 2, 2, 1>>;                         //  64 x 128 x  64

// The tiles for weights of `bits` bits, by plan index. For quantized weights BulkTiles come last.
int tile_count(int bits);
const TileShape& tile_shape(int bits, int tile);

constexpr int grouped_tile_count = GroupedTiles<4>::count;
const TileShape& grouped_tile_shape(int bits, int tile);

// --- Shared memory: the exchange of sums between warps, then stages of [weights][x][scales][zeros].
constexpr int exchange_pitch = 64 + 4;               // floats per token; the 4 avoid bank conflicts of the writes
constexpr int exchange_floats = 8 * exchange_pitch;  // per warp: 8 tokens by 64 outputs
HOST_DEVICE constexpr uint32_t exchange_bytes(int threads) {
  return static_cast<uint32_t>(threads / 32 * exchange_floats * 4);
}
HOST_DEVICE constexpr uint32_t stage_bytes(int tokens, int outputs, int inputs, int bits, int scale_bytes,
                                           bool zero_points) {
  const int max_groups = bits == 16 ? 0 : inputs / scale_block_inputs(scale_bytes);
  return static_cast<uint32_t>(outputs * inputs * bits / 8 + tokens * inputs * 2 +
                               max_groups * outputs * (scale_bytes + (zero_points ? 1 : 0)));
}
// BulkTiles: [weights][scales][zeros][x] with only the existing rows of x, padded by 16 bytes; and two mbarriers per
// stage after the exchange.
constexpr int max_stages = 8;
constexpr uint32_t bulk_alignment = 128;
HOST_DEVICE constexpr uint32_t bulk_stages_begin(int threads) {
  return exchange_bytes(threads) + (2 * max_stages * 8 + bulk_alignment - 1) / bulk_alignment * bulk_alignment;
}
HOST_DEVICE constexpr uint32_t bulk_stage_bytes(int rows, int outputs, int inputs, int bits, int scale_bytes,
                                                bool zero_points) {
  const auto bytes =
      static_cast<uint32_t>(outputs * inputs * bits / 8 + rows * (inputs * 2 + 16) +
                            inputs / scale_block_inputs(scale_bytes) * outputs * (scale_bytes + (zero_points ? 1 : 0)));
  return (bytes + bulk_alignment - 1) / bulk_alignment * bulk_alignment;
}

// --- The choice.
enum class GemmKernels : uint8_t {
  staged,     // staged_gemm.h alone
  both,       // whichever the cost model expects to be faster
  bulk_first  // bulk_gemm.h wherever it takes the problem
};
struct GemmMachine {
  int multiprocessors;
  double memory_rate;   // KB per microsecond and multiprocessor from memory when all read
  double product_rate;  // thousands of multiply-adds per microsecond and multiprocessor by mma.sync with fp32 sums
  uint32_t shared_bytes_per_block, shared_bytes_per_multiprocessor;
  double library_rate = 0;             // as product_rate, for large products by cuBLAS
  const GemmTuning* tuning = nullptr;  // measurements that correct the model (platform/gemm_tuning.h)
  int64_t crossover = 0;  // rows from which panels are used regardless of the model; 0: let the model decide
  GemmKernels kernels = GemmKernels::staged;
};
// With the rates of a typical card of this compute capability, and the kernels that its code contains.
GemmMachine machine_of(int compute_capability, int code_architecture, int multiprocessors,
                       uint32_t shared_bytes_per_block, uint32_t shared_bytes_per_multiprocessor);
struct GemmProblem {
  int bits;
  int scale_bytes;  // of quantized weights
  bool zero_points;
  int64_t rows, inputs;
  const int64_t* outputs;  // of each weight
  int count;
};
struct GemmPlan {
  int tile;
  TileShape shape;
  int stages;
  uint32_t stage_bytes, shared_bytes;
  int64_t units;
  uint32_t blocks;      // that share the units
  bool whole_tiles;     // whole tiles per block: no fix-up
  double microseconds;  // the model's estimate: for comparing plans, not a prediction
};
using gpu::max_blocks, gpu::partial_bytes;

// The plan for one tile and a number of blocks (fewer if there are fewer units or less workspace). `stages` is 0 if the
// tile does not fit into shared memory, or is one of BulkTiles and the machine does not run them or the inputs are not
// a multiple of padded_inputs.
GemmPlan plan_tile(const GemmMachine& machine, const GemmProblem& problem, int tile, int64_t blocks,
                   bool whole_tiles = false);

// The fastest plan for a tile; `stages` is 0 if it does not fit.
GemmPlan best_plan_of_tile(const GemmMachine& machine, const GemmProblem& problem, int tile);

// For the linears of experts, of which each has its share of `problem.rows` slots: a tile of GroupedTiles, and as many
// blocks (for each tile of columns) as there can be tiles of slots. `stages` is 0 if no tile fits.
GemmPlan plan_grouped(const GemmMachine& machine, const GemmProblem& problem, int64_t experts);

// The fastest plan.
GemmPlan plan_gemm(const GemmMachine& machine, const GemmProblem& problem);

}  // namespace billfish::BILLFISH_TARGET
