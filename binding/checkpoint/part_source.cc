#include "checkpoint/quantized_source.h"

#include <cstring>
#include <utility>

#include "checkpoint/channels.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

class PartSource final : public CanonicalSource {
 public:
  PartSource(std::unique_ptr<CanonicalSource> stored, const QuantizedSpec& spec, const MappedFiles& files)
      : stored_(std::move(stored)),
        from_(stored_->shape()),
        shape_(from_),
        outputs_(spec.part->outputs, from_.out, spec.out, spec.name, "outputs", order_to_follow(*spec.part, files)),
        inputs_(spec.part->inputs, from_.in, spec.in, spec.name, "inputs") {
    shape_.out = spec.out;
    shape_.in = spec.in;
    shape_.group_size = spec.group_size;
    shape_.has_bias = spec.bias.has_value();
    if (spec.part->inputs.empty()) {
      if (shape_.group_size == from_.group_size) return;
      refuse("The part of layer '" + shape_.name + "' has all inputs, but in groups of " +
             std::to_string(shape_.group_size) + " instead of " + std::to_string(from_.group_size));
    }
    if (!from_.order.empty() && !spec.part->inputs_in_group_order) {
      refuse("Layer '" + spec.name +
             "' was quantized with act-order, which mixes the inputs of all its parts; it cannot "
             "be cut between its inputs");
    }
    shape_.order.clear();
    shape_.has_group_index = false;
    find_groups();
  }

  const CanonicalShape& shape() const override { return shape_; }

  void read(int64_t first, int64_t count, CanonicalRows& rows) const override {
    const int64_t groups = shape_.groups();
    const auto scale_bytes = static_cast<int64_t>(byte_size(shape_.scale_type));
    rows.first = first;
    rows.count = count;
    rows.codes.assign(count * shape_.words_per_row(), 0);
    rows.scales.assign(count * groups * scale_bytes, 0);
    rows.zeros.assign(shape_.has_zero_points ? count * groups : 0, 0);
    rows.output_scales.assign(shape_.has_output_scales ? count : 0, 0.0f);
    rows.bias.assign(shape_.has_bias ? count : 0, 0.0f);
    thread_local CanonicalRows stored;
    outputs_.for_each(
        first, count,
        [&](int64_t row, int64_t stored_row, int64_t length) {
          stored_->read(stored_row, length, stored);
          for (int64_t i = 0; i < length; ++i) take_row(stored, i, rows, row - first + i);
        },
        [&](int64_t row, int64_t length) {
          for (int64_t i = 0; i < length; ++i) zero_row(rows, row - first + i);
        });
  }

 private:
  // Inputs of a part's group share a scale, so they must come from one stored group; zeros may be anywhere.
  void find_groups() {
    stored_groups_.assign(shape_.groups(), no_group);
    inputs_.for_each(
        0, shape_.in,
        [&](int64_t at, int64_t stored, int64_t length) {
          for (int64_t i = 0; i < length; ++i) {
            int64_t& group = stored_groups_[(at + i) / shape_.group_size];
            const int64_t wanted = (stored + i) / from_.group_size;
            if (group == no_group) group = wanted;
            if (group == wanted) continue;
            refuse("The part of layer '" + shape_.name + "' has inputs of groups " + std::to_string(group) + " and " +
                   std::to_string(wanted) + " in one group of " + std::to_string(shape_.group_size) +
                   "; cut and pad by whole groups");
          }
        },
        [](int64_t, int64_t) {});
  }

  void take_row(const CanonicalRows& from, int64_t from_row, CanonicalRows& to, int64_t row) const {
    if (shape_.has_bias) to.bias[row] = from.bias[from_row];
    if (shape_.has_output_scales) to.output_scales[row] = from.output_scales[from_row];
    const int64_t groups = shape_.groups(), from_groups = from_.groups();
    const size_t size = byte_size(shape_.scale_type);
    for (int64_t group = 0; group < groups; ++group) {
      const int64_t stored = stored_groups_.empty() ? group : stored_groups_[group];
      if (stored == no_group) continue;  // its scale stays zero
      std::memcpy(&to.scales[(row * groups + group) * size], &from.scales[(from_row * from_groups + stored) * size],
                  size);
      if (shape_.has_zero_points) to.zeros[row * groups + group] = from.zeros[from_row * from_groups + stored];
    }
    const uint32_t* source = &from.codes[from_row * from_.words_per_row()];
    uint32_t* target = &to.codes[row * shape_.words_per_row()];
    if (inputs_.are_all()) {
      std::memcpy(target, source, shape_.words_per_row() * 4);
      return;
    }
    inputs_.for_each(
        0, shape_.in,
        [&](int64_t at, int64_t stored, int64_t length) { copy_codes(source, stored, target, at, length); },
        [&](int64_t at, int64_t length) {
          for (int64_t k = at; k < at + length; ++k) {
            put_code(target, k, zero_point(to, row, k / shape_.group_size));
          }
        });
  }

  // Scales of both levels and bias are already zero.
  void zero_row(CanonicalRows& rows, int64_t row) const {
    uint32_t* target = &rows.codes[row * shape_.words_per_row()];
    for (int64_t k = 0; k < shape_.in; ++k) put_code(target, k, zero_point(rows, row, k / shape_.group_size));
  }

  uint32_t zero_point(const CanonicalRows& rows, int64_t row, int64_t group) const {
    return shape_.has_zero_points ? rows.zeros[row * shape_.groups() + group] : code_of_zero(shape_.codes, shape_.bits);
  }

  void copy_codes(const uint32_t* source, int64_t from, uint32_t* target, int64_t to, int64_t count) const {
    const int64_t per_word = 32 / shape_.bits;
    if (from % per_word == 0 && to % per_word == 0) {
      const int64_t words = count / per_word;
      std::memcpy(target + to / per_word, source + from / per_word, words * 4);
      from += words * per_word;
      to += words * per_word;
      count -= words * per_word;
    }
    const uint32_t mask = (1u << shape_.bits) - 1;
    for (int64_t i = 0; i < count; ++i) {
      put_code(target, to + i, source[(from + i) / per_word] >> ((from + i) % per_word * shape_.bits) & mask);
    }
  }

  // The target bits are zero.
  void put_code(uint32_t* target, int64_t k, uint32_t code) const {
    const int64_t per_word = 32 / shape_.bits;
    target[k / per_word] |= code << (k % per_word * shape_.bits);
  }

  static constexpr int64_t no_group = -1;

  const std::unique_ptr<CanonicalSource> stored_;
  const CanonicalShape& from_;
  CanonicalShape shape_;
  Channels outputs_, inputs_;
  std::vector<int64_t> stored_groups_;  // per group of the part, if inputs are selected
};

}  // namespace

std::unique_ptr<CanonicalSource> part_of(std::unique_ptr<CanonicalSource> stored, const QuantizedSpec& spec,
                                         const MappedFiles& files) {
  return std::make_unique<PartSource>(std::move(stored), spec, files);
}

}  // namespace billfish
