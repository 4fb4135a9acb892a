// Launches of the GEMM kernels and their arguments, the same for all types. CMake generates a source for each type of
// weight that instantiates them (instances.cmake).
#pragma once
#include <cstdint>

#include "engine/dtype.h"
#include "gemm/layout.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// One of the weights that a launch multiplies x by.
struct GemmTarget {
  Global<const uint8_t> weights;  // codes, or rows of 16-bit elements
  Global<const uint8_t> scales;
  Global<const uint8_t> zeros;
  Global<const float> output_scales;  // null where all are 1
  Global<const float> bias;           // null without bias
  Global<uint8_t> out;
  int64_t out_stride;     // elements
  uint32_t weight_pitch;  // bytes of a strip's codes, or of a row of elements
  int32_t columns;        // outputs
  int32_t first_column;   // the tile column where the target begins
  bool out_is_float;      // else Element
  bool wide;              // rows allow storing four outputs at once
};

struct GemmArguments {
  static constexpr int max_targets = 4;
  static constexpr bool shares_tiles = true;  // among blocks

  Global<const uint8_t> x;  // Element, rows at multiples of 16 bytes
  uint32_t x_pitch;         // bytes from row to row; all rows have less than 2^32
  int32_t rows, inputs;     // of x; inputs is a multiple of 8
  int32_t stages;
  uint32_t stage_bytes, stages_end;             // shared memory: of a stage, and where the last one ends
  int32_t k_tiles, whole_k_tiles, token_tiles;  // the last of k_tiles may be cut short
  uint32_t units;                               // times blocks: less than 2^32
  uint32_t grain;  // blocks' ranges of units begin at multiples of this: 1, or k_tiles for whole tiles

  int32_t stage_rows;  // rows of x in a stage of the bulk kernel

  // Of quantized weights. Inputs [b i, b i + b), with the b of scale_block_inputs(), belong to group i >> group_shift,
  // at most groups - 1; a stage spans stage_groups of them, starting with that of its first input.
  int32_t groups, group_shift, stage_groups;
  DType scale_type;
  int32_t scale_bytes, scale_shift;  // of one; 64 of them are 1 << scale_shift chunks of 16 bytes

  Global<float> partials;    // two tiles per block
  Global<int32_t> counters;  // one per block, zero between launches
  int32_t count;
  GemmTarget targets[max_targets];
};

struct GemmLaunch {
  int tile;  // of QuantizedTiles, ElementTiles or BulkTiles
  uint32_t blocks;
  uint32_t shared_bytes;
};

// Of linears of experts (grouped_gemm.h): rows are slots, sorted by expert. `inputs` and the targets' `columns` are an
// expert's; x_pitch and out_stride are from token to token.
struct GroupedArguments : GemmArguments {
  static constexpr bool shares_tiles = false;

  Global<const int32_t> slots;       // [row]: token * per_token + the slot's number among the token's
  Global<const uint32_t> tiles;      // [token tile][4]: expert, first row, end of the rows
  Global<const int32_t> tile_count;  // token tiles
  int32_t per_token, experts;        // expert number `experts` are those that have no weights here
  int32_t column_tiles;              // of all targets
  uint32_t x_slot_pitch;             // bytes from a slot's x to that of the token's next; 0: they share one
};

// staged_gemm.h. bits: 4, 8 or 16, which are no codes and `centered`.
template <class Element, int bits, CodeKind kind>
void launch_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

// grouped_gemm.h. bits: 4, 8 or 16; `shape.blocks` is the most token tiles that there can be.
template <class Element, int bits, CodeKind kind>
void launch_grouped_gemm(Stream& stream, const GemmLaunch& shape, const GroupedArguments& arguments);

// bulk_gemm.h. bits: 4 or 8.
template <class Element, int bits, CodeKind kind>
void launch_bulk_gemm(Stream& stream, const GemmLaunch& shape, const GemmArguments& arguments);

}  // namespace billfish::BILLFISH_TARGET
