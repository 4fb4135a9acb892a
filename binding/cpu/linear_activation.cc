#include "cpu/linear_activation.h"

#include <algorithm>
#include <cstring>

#include "cpu/quantize_activation.h"

namespace billfish::cpu {
namespace {

// Several threads share the work from this many elements on: fewer are done before a helper wakes up.
constexpr int64_t parallel_elements = 32 * 1024;

int64_t round_up_to_eight(int64_t count) { return (count + 7) / 8 * 8; }

// Where prepared rows go: codes, scales and sums, or floats.
struct Destination {
  int16_t* codes = nullptr;
  float* scales = nullptr;
  int32_t* sums = nullptr;
  float* floats = nullptr;
};

void prepare_row(const QuantizedLinearKernels& kernels, const Rows& x, int64_t row, const Activation& activation,
                 const Destination& to) {
  const float* const values = x.data + row * x.stride;
  for_each_segment(x.columns, activation.group_size, [&](int64_t segment, int64_t, int64_t first, int64_t count) {
    float gathered[segment_inputs];
    const float* from = values + first;
    if (activation.order != nullptr) {
      const int32_t* const order = activation.order->data() + first;
      for (int64_t k = 0; k < count; ++k) gathered[k] = values[order[k]];
      from = gathered;
    }
    if (activation.quantized) {
      int16_t* const codes = to.codes + first * x.rows + row * round_up_to_eight(count);
      const int64_t entry = segment * x.rows + row;
      kernels.quantize_segment(from, count, codes, to.scales + entry, to.sums + entry);
    } else {
      std::memcpy(to.floats + first * x.rows + row * count, from, count * sizeof(float));
    }
  });
}

void prepare(const Rows& x, Activation& activation, ThreadPool& pool) {
  Destination to;
  if (activation.quantized) {
    int64_t segments = 0;
    for_each_segment(x.columns, activation.group_size, [&](int64_t, int64_t, int64_t, int64_t) { ++segments; });
    to.codes = activation.codes.at_least(x.rows * round_up_to_eight(x.columns));
    to.scales = activation.scales.at_least(x.rows * segments);
    to.sums = activation.sums.at_least(x.rows * segments);
    activation.integers = {x.rows, to.codes, to.scales, to.sums};
  } else {
    to.floats = activation.floats.at_least(x.rows * x.columns);
  }
  const QuantizedLinearKernels& kernels = quantized_linear_kernels();
  const auto prepare_rows = [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) prepare_row(kernels, x, row, activation, to);
  };
  if (x.rows * x.columns < parallel_elements) {
    prepare_rows(0, x.rows);
  } else {
    pool.parallel_for(x.rows, std::max<int64_t>(1, parallel_elements / 4 / x.columns), prepare_rows);
  }
}

}  // namespace

const Activation& PreparedActivations::get(const Rows& x, int64_t group_size, const std::vector<int32_t>* order,
                                           bool quantized, ThreadPool& pool) {
  // Groups that whole segments fill, and a single group, are cut alike.
  if (group_size % segment_inputs == 0 || group_size >= x.columns) group_size = segment_inputs;
  for (size_t i = 0; i < used_; ++i) {
    const Activation& known = *activations_[i];
    const bool both = known.order != nullptr && order != nullptr;
    const bool same_order = both ? *known.order == *order : known.order == order;
    if (known.quantized == quantized && known.group_size == group_size && same_order) return known;
  }
  if (used_ == activations_.size()) activations_.push_back(std::make_unique<Activation>());
  Activation& activation = *activations_[used_++];
  activation.quantized = quantized;
  activation.group_size = group_size;
  activation.order = order;
  prepare(x, activation, pool);
  return activation;
}

}  // namespace billfish::cpu
