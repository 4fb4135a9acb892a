// What a launch of the GEMM is told. Launches of all types share it.
#pragma once
#include <cstdint>

#include "engine/dtype.h"
#include "primitives/macros.h"
#include "primitives/pointer.h"

namespace billfish::BILLFISH_TARGET {

// One of the weights that a launch applies to x.
struct GemmTarget {
  Global<const uint8_t> weights;  // codes, or rows of 16-bit elements
  Global<const uint8_t> scales;
  Global<const uint8_t> zeros;
  Global<const float> bias;  // null without bias
  Global<uint8_t> out;
  int64_t out_stride;     // elements
  uint32_t weight_pitch;  // bytes of a strip's codes, or of a row of elements
  int32_t columns;        // outputs
  int32_t first_column;   // the column of tiles that the target begins at
  bool out_is_float;      // else Element
  bool wide;              // four outputs can be stored at once
};

struct GemmArguments {
  static constexpr int most_targets = 4;

  Global<const uint8_t> x;  // Element, rows at multiples of 16 bytes
  uint32_t x_pitch;         // bytes from row to row; all rows have less than 2^32
  int32_t rows, inputs;     // of x; inputs is a multiple of 8
  int32_t stages;
  uint32_t stage_bytes;
  int32_t k_tiles, token_tiles;
  uint32_t units;  // times blocks: less than 2^32

  uint32_t group_factor;  // 2^31 / (group size / 32)
  int32_t groups;
  DType scale_type;
  int32_t scale_bytes;

  Global<float> partials;    // two tiles a block
  Global<int32_t> counters;  // one a block, zero between launches
  int32_t count;
  GemmTarget targets[most_targets];
};

}  // namespace billfish::BILLFISH_TARGET
