// What operators work on: values, weights, layers of the KV cache. In a program they are numbers, in a call of a
// backend they are memory; operators.h declares each operator once for both forms.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/code_type.h"
#include "engine/dtype.h"

namespace billfish {

using ValueId = int32_t;
using WeightId = int32_t;
constexpr ValueId no_value = -1;
constexpr WeightId no_weight = -1;

// Rows of a value: one a token of the batch, or one a row whose logits are wanted (everything after the gather, in this
// stage and in those behind it).
enum class RowKind { tokens, logits };

// What the numbers are: the residual stream of a 72B model overflows fp16, so backends may keep it wider.
enum class ValueClass { activation, residual, logits };

struct Value {
  int64_t width = 0;
  RowKind rows = RowKind::tokens;
  ValueClass kind = ValueClass::activation;
  ValueId view_of = no_value;  // columns [view_start, view_start + width) of another value
  int64_t view_start = 0;
};

// Rotary embedding: angle of pair i at position p is p * inverse_frequency[i]; cos and sin are multiplied by scale.
struct RopeSpec {
  std::vector<float> inverse_frequency;
  float scale = 1;
};

// One layer's part of the KV cache.
struct CacheLayer {
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
};

// What a layer with a recurrent state keeps of every sequence: `width` fp32 numbers, from which its next step goes on.
struct StateLayer {
  int64_t width = 0;
};

// What is known about a weight before it is loaded.
enum class WeightKind { vector, matrix, quantized };
struct WeightShape {
  std::string name;
  WeightKind kind = WeightKind::vector;
  int64_t out = 0, in = 0;         // a vector has out = its length, in = 1
  int64_t group_size = 0;          // inputs of a quantized weight that share a scale
  bool has_group_index = false;    // of a quantized weight: its inputs may be in another order than those of the layer
  int bits = 4;                    // of a quantized weight
  bool has_zero_points = false;    // of a quantized weight
  bool has_output_scales = false;  // of a quantized weight
  bool has_bias = false;
  DType type = DType::f16;             // of a matrix's elements, or of a quantized weight's scales, in the checkpoint
  CodeType codes = CodeType::integer;  // of a quantized weight
  // Of experts, which are one weight: the rows of an expert, padded with zeros to a multiple of expert_row_tile, stand
  // below those of the expert before; `out` counts all of them.
  int32_t experts = 0;     // 0: not a weight of experts
  int64_t expert_out = 0;  // outputs of an expert, without the padding
};

// Whole tiles and strips of every backend's packed layout, so that an expert can be found in it.
constexpr int64_t expert_row_tile = 64;
constexpr int64_t expert_rows(int64_t expert_out) {
  return (expert_out + expert_row_tile - 1) / expert_row_tile * expert_row_tile;
}

// A row-major matrix on the stage's device: element (r, c) is data[r * stride + c].
struct Tensor {
  void* data = nullptr;
  DType type = DType::f32;
  int64_t rows = 0, columns = 0, stride = 0;
};

// A weight in the backend's own layout.
class Weight {
 public:
  virtual ~Weight() = default;
};

// A cache layer in memory: keys and values, each [blocks][kv_heads][block_size][head_dim] of Backend::cache_type().
struct LayerCache {
  void* keys = nullptr;
  void* values = nullptr;
  int32_t block_size = 0, kv_heads = 0, head_dim = 0;
};

// A state layer in memory, [slots][width]: a sequence has the slot that its span names. A sequence that begins (past 0)
// begins with zeros, whatever its slot holds.
struct LayerState {
  float* data = nullptr;
  int64_t width = 0;
};

// The form of an operator in a program.
struct InProgram {
  using Value = ValueId;
  using Weight = WeightId;
  using CacheLayer = int32_t;  // an index into Program::cache_layers
  using StateLayer = int32_t;  // an index into Program::state_layers
  struct FirstLogitRow {};     // known when the operator runs
  template <class T>
  using List = std::vector<T>;
};

// The form of an operator that a backend runs. Optional operands may be missing: data or pointer is null.
struct InCall {
  using Value = Tensor;
  using Weight = const billfish::Weight*;
  using CacheLayer = LayerCache;
  using StateLayer = LayerState;
  using FirstLogitRow = int64_t;
  template <class T>
  using List = std::span<const T>;
};

}  // namespace billfish
