#include "cpu/linear_activation.h"

#include <algorithm>
#include <cstring>

namespace billfish::cpu {
namespace {

// The number of elements from which threads share the work: fewer are done before a helper wakes up.
constexpr int64_t parallel_elements = 32 * 1024;

int64_t round_up_to_eight(int64_t count) { return (count + 7) / 8 * 8; }

int64_t segments_of(const Activation& activation) {
  int64_t segments = 0;
  for_each_segment(activation.in, activation.group_size, [&](int64_t, int64_t, int64_t, int64_t) { ++segments; });
  return segments;
}

// The destination of prepared rows: codes, scales and sums, or floats.
struct Destination {
  int16_t* codes = nullptr;
  float* scales = nullptr;
  int32_t* sums = nullptr;
  float* floats = nullptr;
};

// Row `row` of `rows` that are prepared together.
void prepare_row(const QuantizedLinearKernels& kernels, const float* values, int64_t rows, int64_t row,
                 const Activation& activation, const int32_t* in_order, const Destination& to) {
  for_each_segment(activation.in, activation.group_size, [&](int64_t segment, int64_t, int64_t first, int64_t count) {
    float gathered[segment_inputs];
    const float* from = values + first;
    if (in_order != nullptr) {
      const int32_t* const order = in_order + first;
      for (int64_t k = 0; k < count; ++k) gathered[k] = values[order[k]];
      from = gathered;
    }
    if (activation.quantized) {
      int16_t* const codes = to.codes + first * rows + row * round_up_to_eight(count);
      const int64_t entry = segment * rows + row;
      kernels.quantize_segment(from, count, codes, to.scales + entry, to.sums + entry);
    } else {
      std::memcpy(to.floats + first * rows + row * count, from, count * sizeof(float));
    }
  });
}

}  // namespace

bool Activation::same_preparation(const Activation& other) const {
  if (quantized != other.quantized || in != other.in || group_size != other.group_size) return false;
  if (order == nullptr || other.order == nullptr) return order == other.order;
  return std::memcmp(order, other.order, static_cast<size_t>(in) * sizeof(int32_t)) == 0;
}

Activation activation_for(const LinearCall& call, Precision precision) {
  Activation activation;
  if (call.matrix != nullptr) {
    activation.in = call.matrix->in;
    activation.group_size = segment_inputs;
    return activation;
  }
  const QuantizedLinear& linear = *call.quantized;
  // Codes that are 8-bit floats span a range of 2^18, too wide for products of 16-bit integers, so they are multiplied
  // in fp32 whatever the precision: as fast where memory is the limit, and exact.
  activation.quantized = precision == Precision::fast && linear.type != CodeType::e4m3;
  activation.in = linear.in;
  // Groups that are whole segments, and a single group, are cut the same way.
  const bool whole_segments = linear.group_size % segment_inputs == 0 || linear.group_size >= linear.in;
  activation.group_size = whole_segments ? segment_inputs : linear.group_size;
  activation.order = linear.order;
  return activation;
}

size_t activation_bytes(const Activation& activation, int64_t rows) {
  const auto piece = [&](int64_t elements, size_t bytes) {
    return scratch_piece(static_cast<size_t>(elements * rows) * bytes);
  };
  if (!activation.quantized) return piece(activation.in, sizeof(float));
  const int64_t segments = segments_of(activation);
  return piece(round_up_to_eight(activation.in), sizeof(int16_t)) + piece(segments, sizeof(float)) +
         piece(segments, sizeof(int32_t));
}

void prepare(const Rows& x, Activation& activation, const Scratch& scratch, ThreadPool& pool) {
  Destination to;
  ScratchPieces pieces(scratch);
  if (activation.quantized) {
    const int64_t segments = segments_of(activation);
    to.codes = pieces.take<int16_t>(x.rows * round_up_to_eight(x.columns));
    to.scales = pieces.take<float>(x.rows * segments);
    to.sums = pieces.take<int32_t>(x.rows * segments);
    activation.integers = {x.rows, to.codes, to.scales, to.sums};
  } else {
    to.floats = pieces.take<float>(x.rows * x.columns);
    activation.floats = to.floats;
  }
  const QuantizedLinearKernels& kernels = quantized_linear_kernels();
  const auto prepare_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      prepare_row(kernels, x.row(row), x.rows, row, activation, activation.order, to);
    }
  };
  if (x.rows * x.columns < parallel_elements) {
    prepare_rows(0, x.rows);
  } else {
    pool.parallel_for(x.rows, std::max<int64_t>(1, parallel_elements / 4 / x.columns), prepare_rows);
  }
}

PreparedRuns::PreparedRuns(const Activation& activation, int64_t rows, ScratchPieces& pieces)
    : activation_(activation), segments_(segments_of(activation)), padded_in_(round_up_to_eight(activation.in)) {
  if (activation.quantized) {
    codes_ = pieces.take<int16_t>(rows * padded_in_);
    scales_ = pieces.take<float>(rows * segments_);
    sums_ = pieces.take<int32_t>(rows * segments_);
  } else {
    floats_ = pieces.take<float>(rows * activation.in);
  }
}

Activation PreparedRuns::run(int64_t first, int64_t rows) const {
  Activation own = activation_;
  if (own.quantized) {
    own.integers = {rows, codes_ + first * padded_in_, scales_ + first * segments_, sums_ + first * segments_};
  } else {
    own.floats = floats_ + first * own.in;
  }
  return own;
}

void PreparedRuns::prepare(const float* values, int64_t first, int64_t rows, int64_t row, const int32_t* order) const {
  Destination to;
  if (activation_.quantized) {
    to = {codes_ + first * padded_in_, scales_ + first * segments_, sums_ + first * segments_, nullptr};
  } else {
    to.floats = floats_ + first * activation_.in;
  }
  prepare_row(quantized_linear_kernels(), values, rows, row, activation_, order, to);
}

}  // namespace billfish::cpu
