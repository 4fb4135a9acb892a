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

// The destination of prepared rows: codes, scales and sums, floats, or pairs.
struct Destination {
  int16_t* codes = nullptr;
  float* scales = nullptr;
  int32_t* sums = nullptr;
  float* floats = nullptr;
  uint32_t* pairs = nullptr;
};

// Row `row` of `rows` that are prepared together.
void prepare_row(const float* values, int64_t rows, int64_t row, const Activation& activation, const int32_t* in_order,
                 const Destination& to) {
  for_each_segment(activation.in, activation.group_size, [&](int64_t segment, int64_t, int64_t first, int64_t count) {
    float gathered[segment_inputs];
    const float* from = values + first;
    if (in_order != nullptr) {
      const int32_t* const order = in_order + first;
      for (int64_t k = 0; k < count; ++k) gathered[k] = values[order[k]];
      from = gathered;
    }
    const int64_t place = first * rows + row * round_up_to_eight(count);
    switch (activation.form) {
      case Activation::Form::floats:
        std::memcpy(to.floats + first * rows + row * count, from, count * sizeof(float));
        break;
      case Activation::Form::integers: {
        const int64_t entry = segment * rows + row;
        const QuantizedLinearKernels& kernels = quantized_linear_kernels();
        kernels.quantize_segment(from, count, to.codes + place, to.scales + entry, to.sums + entry);
        if (rows <= quantized_gemv_rows && kernels.arrange_for_gemv != nullptr) {
          kernels.arrange_for_gemv(to.codes + place, round_up_to_eight(count));
        }
        break;
      }
      case Activation::Form::pairs:
        float_pair_kernels()->split_segment(from, count, to.pairs + place);
        break;
    }
  });
}

}  // namespace

bool Activation::same_preparation(const Activation& other) const {
  if (form != other.form || in != other.in || group_size != other.group_size) return false;
  if (order == nullptr || other.order == nullptr) return order == other.order;
  return std::memcmp(order, other.order, static_cast<size_t>(in) * sizeof(int32_t)) == 0;
}

Activation activation_for(const LinearCall& call, int64_t rows, Precision precision) {
  Activation activation;
  if (call.matrix != nullptr) {
    activation.in = call.matrix->in;
    activation.group_size = segment_inputs;
    return activation;
  }
  const QuantizedLinear& linear = *call.quantized;
  // Codes that are 8-bit floats span a range of 2^18, too wide for products of 16-bit integers. Many rows are
  // multiplied in fp32, and few where the processor cannot multiply pairs.
  const bool in_pairs = rows <= quantized_gemv_rows && float_pair_kernels() != nullptr;
  if (precision == Precision::fast) {
    activation.form = linear.type != CodeType::e4m3 ? Activation::Form::integers
                      : in_pairs                    ? Activation::Form::pairs
                                                    : Activation::Form::floats;
  }
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
  static_assert(sizeof(float) == sizeof(uint32_t));
  if (activation.form != Activation::Form::integers) return piece(round_up_to_eight(activation.in), sizeof(float));
  const int64_t segments = segments_of(activation);
  return piece(round_up_to_eight(activation.in), sizeof(int16_t)) + piece(segments, sizeof(float)) +
         piece(segments, sizeof(int32_t));
}

void prepare(const Rows& x, Activation& activation, const Scratch& scratch, ThreadPool& pool) {
  Destination to;
  ScratchPieces pieces(scratch);
  const int64_t elements = x.rows * round_up_to_eight(x.columns), entries = x.rows * segments_of(activation);
  switch (activation.form) {
    case Activation::Form::floats:
      activation.floats = to.floats = pieces.take<float>(elements);
      break;
    case Activation::Form::integers:
      to.codes = pieces.take<int16_t>(elements);
      to.scales = pieces.take<float>(entries);
      to.sums = pieces.take<int32_t>(entries);
      activation.integers = {x.rows, to.codes, to.scales, to.sums};
      break;
    case Activation::Form::pairs:
      activation.pairs = to.pairs = pieces.take<uint32_t>(elements);
      break;
  }
  const auto prepare_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      prepare_row(x.row(row), x.rows, row, activation, activation.order, to);
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
  switch (activation.form) {
    case Activation::Form::floats:
      floats_ = pieces.take<float>(rows * padded_in_);
      break;
    case Activation::Form::integers:
      codes_ = pieces.take<int16_t>(rows * padded_in_);
      scales_ = pieces.take<float>(rows * segments_);
      sums_ = pieces.take<int32_t>(rows * segments_);
      break;
    case Activation::Form::pairs:
      pairs_ = pieces.take<uint32_t>(rows * padded_in_);
      break;
  }
}

Activation PreparedRuns::run(int64_t first, int64_t rows) const {
  Activation own = activation_;
  switch (own.form) {
    case Activation::Form::floats:
      own.floats = floats_ + first * own.in;
      break;
    case Activation::Form::integers:
      own.integers = {rows, codes_ + first * padded_in_, scales_ + first * segments_, sums_ + first * segments_};
      break;
    case Activation::Form::pairs:
      own.pairs = pairs_ + first * padded_in_;
      break;
  }
  return own;
}

void PreparedRuns::prepare(const float* values, int64_t first, int64_t rows, int64_t row, const int32_t* order) const {
  Destination to;
  switch (activation_.form) {
    case Activation::Form::floats:
      to.floats = floats_ + first * activation_.in;
      break;
    case Activation::Form::integers:
      to.codes = codes_ + first * padded_in_;
      to.scales = scales_ + first * segments_;
      to.sums = sums_ + first * segments_;
      break;
    case Activation::Form::pairs:
      to.pairs = pairs_ + first * padded_in_;
      break;
  }
  prepare_row(values, rows, row, activation_, order, to);
}

}  // namespace billfish::cpu
