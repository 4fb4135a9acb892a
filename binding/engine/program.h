// A program: the list of operators that one stage runs for every step.
//
// TypeScript traces it once from the model's definition and fuses neighbors (src/models/program.ts); validate() checks
// it whole before anything is counted or run, so that no program, however wrong, can touch memory that is not its own.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "engine/dtype.h"

namespace billfish {

using ValueId = int32_t;
using WeightId = int32_t;
constexpr ValueId no_value = -1;
constexpr WeightId no_weight = -1;

// Rows of a value: one per token of the batch, or one per row whose logits are wanted (everything after the gather).
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

// --- Operators. Where `out` is missing the operator works in place on `x`.
struct Embedding {  // out = table[token ids - first], and zeros for tokens that have no row in the table
  WeightId table;
  ValueId out;
  int64_t first = 0;
};
struct RmsNorm {  // over each run of `width` columns; out may equal x
  ValueId x;
  WeightId weight;
  int64_t width;
  float eps;
  ValueId out;
};
struct AddRmsNorm {  // x += y; out = norm(x)
  ValueId x, y;
  WeightId weight;
  float eps;
  ValueId out;
};
struct LayerNorm {  // over whole rows; out may equal x
  ValueId x;
  WeightId weight, bias;  // bias: may be no_weight
  float eps;
  ValueId out;
};
struct LinearTarget {
  WeightId weight;
  ValueId out;
};
struct Linear {  // one or several weights on one input
  ValueId x;
  std::vector<LinearTarget> targets;
};
struct Rope {
  ValueId x;
  int32_t heads, head_dim, rope;
};
struct LogNScale {  // Qwen v1: rows at 1-based position p > length are multiplied by log_length(p)
  ValueId x;
  int32_t length;
};
struct Attention {
  ValueId q, k, v, out;
  int32_t layer;  // index into cache_layers
  int32_t heads;
  float scale;
  int32_t window;  // 0: none
};
struct SiluMul {  // gate = silu(gate) * up
  ValueId gate, up;
};
struct Add {  // x += y
  ValueId x, y;
};
struct Gather {  // out = the rows of x whose logits are wanted
  ValueId x, out;
};
// Hands a copy of x, all of its rows, to the step's result as hidden state `index`, if the step asked for hidden
// states.
struct Tap {
  ValueId x;
  int32_t index;
};
struct AllReduce {  // out = the sum of x over the ranks of the stage; x is used up
  ValueId x, out;
};
// Columns [from, from + count) of a rank's value, which become those from `to` on.
struct GatheredPiece {
  int32_t rank;
  int64_t from, to, count;
};
struct AllGather {  // out = pieces of all ranks' x, concatenated
  ValueId x;
  ValueId out;  // no_value for a rank that only sends
  std::vector<GatheredPiece> pieces;
};
using Operator = std::variant<Embedding, RmsNorm, AddRmsNorm, LayerNorm, Linear, Rope, LogNScale, Attention, SiluMul,
                              Add, Gather, Tap, AllReduce, AllGather>;

// What is known about a weight before it is loaded.
enum class WeightKind { vector, matrix, quantized };
struct WeightShape {
  std::string name;
  WeightKind kind = WeightKind::vector;
  int64_t out = 0, in = 0;       // a vector has out = its length, in = 1
  int64_t group_size = 0;        // inputs of a quantized weight that share a scale
  bool has_group_index = false;  // of a quantized weight: its inputs may be in another order than those of the layer
  int bits = 4;                  // of a quantized weight
  bool has_zero_points = false;  // of a quantized weight
  bool has_bias = false;
  DType type = DType::f16;  // of a matrix's elements, or of a quantized weight's scales, in the checkpoint
};

struct Program {
  std::vector<Value> values;
  std::vector<RopeSpec> ropes;
  std::vector<CacheLayer> cache_layers;
  std::vector<Operator> operators;
  ValueId input = no_value;  // hidden states from the stage before; none in the first stage
  // Hidden states for the next stage; in the last the logits, or the normed hidden states of a model without a head.
  ValueId output = no_value;
};

// Calls visit(id, is_output) for every value that an operator reads or writes, those that it reads first; in-place
// operands count as read.
void for_each_value(const Operator& op, const std::function<void(ValueId id, bool is_output)>& visit);

// Calls visit(id) for every weight of an operator.
void for_each_weight(const Operator& op, const std::function<void(WeightId id)>& visit);

// Throws INTERNAL (a program comes from our own tracer) naming the operator and what does not fit: values that are read
// before they are written, or shapes and weights that do not fit. Throws UNSUPPORTED_MODEL for sizes that no machine
// has.
void validate(const Program& program, const std::vector<WeightShape>& weights);

// Throws INTERNAL unless the programs of a stage's ranks have the same collectives, and receive only what the others
// have.
void validate_ranks(const std::vector<const Program*>& programs);

const char* operator_name(const Operator& op);

}  // namespace billfish
