// The canonical linear: the one form that every checkpoint format is turned into, and that every backend packs from.
//
//   y[n] = output_scale[n] * sum over k of  scale[n, k / group_size] * (code[n, k] - zero[n, k / group_size])
//                                           * x[order[k]]   + bias[n]
//
// Codes are unsigned. Without zero points the zero is 2^(bits-1). Codes may also be floats (code_type.h), which have no
// zero points: then the float takes the place of code - zero. Output scales are there where a format has scales at two
// levels, those of groups in a byte each. With act-order, canonical input k is the layer's input order[k]: rows are
// already sorted by group, so groups are contiguous for every backend.
//
// A canonical linear is never whole in memory: it is produced and packed in slabs of rows, so that host memory stays
// bounded whatever the model's size. Padding and sharding act on slabs too.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/code_type.h"
#include "engine/dtype.h"

namespace billfish {

struct CanonicalShape {
  std::string name;  // the module's name in the checkpoint, for messages
  int bits = 4;      // 4 or 8
  CodeType codes = CodeType::integer;
  int64_t out = 0;         // N
  int64_t in = 0;          // K
  int64_t group_size = 0;  // inputs that share a scale; == in when channelwise; the last group may be short
  bool has_zero_points = false;
  bool has_bias = false;
  DType scale_type = DType::f16;  // f16, bf16, f32, f8_e4m3 or f8_e8m0, as in the checkpoint
  bool has_output_scales = false;
  bool has_group_index = false;  // the checkpoint stores an order of the inputs, possibly the natural one
  int32_t experts = 0;           // of a weight of experts: how many, which have orders of their own
  std::vector<int32_t> order;    // act-order permutation [in], of experts [experts][in]; empty when all are natural

  int64_t groups() const { return (in + group_size - 1) / group_size; }
  // Of all orders, where the checkpoint may have any.
  int64_t order_length() const { return has_group_index ? (experts > 0 ? experts : 1) * in : 0; }
  // 32-bit words that hold the codes of one row: 8 codes of 4 bits or 4 codes of 8 bits a word, lowest bits = lowest k.
  int64_t words_per_row() const { return (in * bits + 31) / 32; }
};

struct WeightShape;  // program.h
// Of a quantized weight: all but the order of its inputs, which only the checkpoint's contents tell.
CanonicalShape canonical_shape(const WeightShape& weight);

// Rows [first, first + count) of a canonical linear.
struct CanonicalRows {
  int64_t first = 0;
  int64_t count = 0;
  std::vector<uint32_t> codes;       // [count][words_per_row]
  std::vector<uint8_t> scales;       // [count][groups] of scale_type (raw bytes)
  std::vector<uint8_t> zeros;        // [count][groups]; empty without zero points
  std::vector<float> output_scales;  // [count]; empty without them
  std::vector<float> bias;           // [count]; empty without bias
};

// Where canonical rows come from: a format's reader over mapped checkpoint files.
class CanonicalSource {
 public:
  virtual ~CanonicalSource() = default;
  virtual const CanonicalShape& shape() const = 0;
  // Fills `rows` with rows [first, first + count). Thread-safe; throws Error (a scale that is NaN or infinite, a file
  // that has shrunk). `first` and `count` may be any range; multiples of 64 read fastest.
  virtual void read(int64_t first, int64_t count, CanonicalRows& rows) const = 0;
};

}  // namespace billfish
