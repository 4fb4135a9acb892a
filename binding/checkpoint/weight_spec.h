// Where a weight is in the mapped files and how it is stored: the native counterpart of src/native/weights.ts.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "engine/code_type.h"
#include "engine/dtype.h"

namespace billfish {

struct TensorRef {
  std::string name;
  int file = 0;
  DType dtype = DType::f16;
  std::vector<int64_t> shape;
  uint64_t offset = 0;  // from the start of the file
  uint64_t bytes = 0;
};

// A run of consecutive channels of a stored layer, or of zeros between channels.
struct ChannelRun {
  static constexpr int64_t zeros = -1;
  int64_t start = 0;  // in the stored layer, or `zeros`
  int64_t count = 0;
};

// The part of a stored layer that a weight holds: a rank's share under tensor parallelism, and padding.
struct Part {
  int64_t stored_out = 0, stored_in = 0;
  int64_t stored_group_size = 0;            // of quantized layers
  std::vector<ChannelRun> outputs, inputs;  // in the weight's order; no runs: all of them
  // With act-order, inputs are numbered in the order of groups and arrive in that order, because the layer that
  // produces them follows it (`follows`). Otherwise only layers with inputs in their natural order can be split along
  // them.
  bool inputs_in_group_order = false;
  // The outputs are numbered in the order of groups of the layer that reads them, given by this group index.
  std::optional<TensorRef> follows;
  int64_t followed_group_size = 0;
};

// A matrix [out, in] in the checkpoint's floating-point type, with an optional bias.
struct MatrixSpec {
  std::string name;
  int64_t out = 0, in = 0;
  TensorRef weight;
  std::optional<TensorRef> bias;
  std::optional<Part> part;  // out and in are the part's then
  // Of a weight that is stored input by input, [in, columns]: the column of the first output.
  std::optional<int64_t> column;
};

// The elements of a small tensor of any shape, each plus `offset`, kept as fp32.
struct VectorSpec {
  std::string name;
  int64_t length = 0;
  TensorRef weight;
  float offset = 0;
  std::vector<ChannelRun> elements;  // of the tensor's, in the vector's order; no runs: all of them
};

enum class Format { gptq, awq, awq_gemv, compressed_tensors, fp8, fp4 };

struct QuantizedSpec {
  std::string name;
  Format format = Format::gptq;
  int bits = 4;
  int64_t out = 0, in = 0;
  int64_t group_size = 0;  // == in when channelwise
  int64_t scale_rows = 1;  // stored outputs that share a row of scales and zeros: of fp8 and compressed_tensors
  bool symmetric = true;   // zero is 2^(bits-1), stored zeros are ignored
  int zero_offset = 0;     // added to stored zeros modulo 2^bits: 1 for GPTQ v1
  TensorRef codes, scales;
  std::optional<TensorRef> zeros, group_index, bias;
  bool act_order = false;                 // whether group_index was seen to be in another order than the natural one
  std::optional<TensorRef> global_scale;  // of fp4: one number that multiplies all scales, or divides them
  bool global_scale_divides = false;
  std::optional<TensorRef> stored_shape;  // compressed-tensors' weight_shape: [out, in] as i32 or i64 numbers
  std::optional<Part> part;               // out, in and group_size are the part's then
};

// What codes are that are stored in a tensor of this type: bytes are those of fp4, a pair each.
constexpr CodeType code_type(DType type) {
  return type == DType::f8_e4m3 ? CodeType::e4m3 : type == DType::u8 ? CodeType::e2m1 : CodeType::integer;
}
inline CodeType code_type(const QuantizedSpec& spec) { return code_type(spec.codes.dtype); }

// The type of scales that are stored in a tensor of this type: bytes without a type of their own are exponents.
constexpr DType scale_type(DType type) { return type == DType::u8 ? DType::f8_e8m0 : type; }

using LinearSpec = std::variant<MatrixSpec, QuantizedSpec>;

// Experts as they are stored, one linear each, which the weights of several ranks have parts of.
using ExpertList = std::shared_ptr<const std::vector<LinearSpec>>;

// One linear an expert, or the same part of each: the rows of a weight of experts (WeightShape::experts).
struct ExpertsSpec {
  std::string name;
  LinearSpec first;      // the part of the first expert
  ExpertList experts;    // at least one
  ExpertList consumers;  // null, or what reads the outputs of each expert, which follow its group order
};

// The part of expert `index`, which is to the expert what `first` is to the first one. Throws INVALID_CHECKPOINT if
// they are not of one kind, or if a consumer is missing.
LinearSpec part_of_expert(const ExpertsSpec& spec, size_t index);

using WeightSpec = std::variant<VectorSpec, MatrixSpec, QuantizedSpec, ExpertsSpec>;

}  // namespace billfish
