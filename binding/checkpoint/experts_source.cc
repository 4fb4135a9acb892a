#include "checkpoint/experts_source.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <variant>

#include "checkpoint/tensor_check.h"
#include "engine/error.h"
#include "engine/operands.h"

namespace billfish {
namespace {

// Calls take(expert, its first row, rows, place among the rows asked for) and pad(rows, place) for rows [first, first +
// count) of experts of `out` outputs.
template <class Take, class Pad>
void for_each_expert(int64_t out, int64_t first, int64_t count, Take take, Pad pad) {
  const int64_t rows = expert_rows(out);
  for (int64_t place = 0; place < count;) {
    const int64_t row = (first + place) % rows, left = count - place;
    const int64_t now = std::min(left, (row < out ? out : rows) - row);
    if (row < out) {
      take((first + place) / rows, row, now, place);
    } else {
      pad(now, place);
    }
    place += now;
  }
}

void take_part(const MatrixSpec& first, MatrixSpec& expert) {
  expert.out = first.out;
  expert.in = first.in;
  expert.part = first.part;
  if (!first.bias) expert.bias.reset();
}

void take_part(const QuantizedSpec& first, QuantizedSpec& expert) {
  expert.out = first.out;
  expert.in = first.in;
  expert.group_size = first.group_size;
  expert.part = first.part;
  if (!first.bias) expert.bias.reset();
}

void follow(const LinearSpec& consumer, std::optional<Part>& part) {
  const auto* const quantized = std::get_if<QuantizedSpec>(&consumer);
  if (!part || !quantized || !quantized->group_index) return;
  part->follows = quantized->group_index;
  part->followed_group_size = quantized->group_size;
}

}  // namespace

LinearSpec part_of_expert(const ExpertsSpec& spec, size_t index) {
  LinearSpec expert = spec.experts->at(index);
  if (expert.index() != spec.first.index()) refuse("The experts '" + spec.name + "' are not stored in the same way");
  if (spec.consumers && spec.consumers->size() != spec.experts->size()) {
    refuse("The " + std::to_string(spec.experts->size()) + " experts '" + spec.name + "' have " +
           std::to_string(spec.consumers->size()) + " consumers");
  }
  std::visit(
      [&](auto& own) {
        take_part(std::get<std::decay_t<decltype(own)>>(spec.first), own);
        if (spec.consumers) follow((*spec.consumers)[index], own.part);
      },
      expert);
  return expert;
}

QuantizedExperts::QuantizedExperts(const ExpertsSpec& spec, const CanonicalShape& shape, const MappedFiles& files)
    : out_(std::get<QuantizedSpec>(spec.first).out), shape_(shape) {
  experts_.reserve(spec.experts->size());
  for (size_t i = 0; i < spec.experts->size(); ++i) {
    experts_.push_back(open_quantized(std::get<QuantizedSpec>(part_of_expert(spec, i)), files));
    take_order(i);
  }
}

void QuantizedExperts::take_order(size_t expert) {
  const CanonicalShape& own = experts_[expert]->shape();
  if (own.order.empty()) return;
  if (!shape_.has_group_index) {
    refuse("The inputs of expert '" + own.name +
           "' are in another order (act-order), and were in their natural one when the checkpoint was opened; open it "
           "again");
  }
  if (shape_.order.empty()) {
    shape_.order.resize(static_cast<size_t>(shape_.order_length()));
    for (size_t i = 0; i < shape_.order.size(); ++i) shape_.order[i] = static_cast<int32_t>(i % own.order.size());
  }
  std::copy(own.order.begin(), own.order.end(), shape_.order.begin() + expert * own.order.size());
}

void QuantizedExperts::read(int64_t first, int64_t count, CanonicalRows& rows) const {
  const int64_t words = shape_.words_per_row(), groups = shape_.groups();
  const size_t scale_bytes = byte_size(shape_.scale_type);
  rows.first = first;
  rows.count = count;
  rows.codes.assign(count * words, 0);
  rows.scales.assign(count * groups * scale_bytes, 0);
  rows.zeros.assign(shape_.has_zero_points ? count * groups : 0, 0);
  rows.output_scales.assign(shape_.has_output_scales ? count : 0, 0.0f);
  rows.bias.assign(shape_.has_bias ? count : 0, 0.0f);
  thread_local CanonicalRows own;
  for_each_expert(
      out_, first, count,
      [&](int64_t expert, int64_t row, int64_t now, int64_t place) {
        experts_[expert]->read(row, now, own);
        std::copy(own.codes.begin(), own.codes.end(), rows.codes.begin() + place * words);
        std::copy(own.scales.begin(), own.scales.end(), rows.scales.begin() + place * groups * scale_bytes);
        std::copy(own.output_scales.begin(), own.output_scales.end(), rows.output_scales.begin() + place);
        std::copy(own.bias.begin(), own.bias.end(), rows.bias.begin() + place);
        if (!shape_.has_zero_points) return;
        const auto zeros = rows.zeros.begin() + place * groups;
        if (own.zeros.empty()) {
          std::fill_n(zeros, now * groups, static_cast<uint8_t>(1u << (shape_.bits - 1)));
        } else {
          std::copy(own.zeros.begin(), own.zeros.end(), zeros);
        }
      },
      [](int64_t, int64_t) {});
}

MatrixExperts::MatrixExperts(const ExpertsSpec& spec, const MappedFiles& files) {
  const auto& first = std::get<MatrixSpec>(spec.first);
  out_ = first.out;
  row_bytes_ = static_cast<size_t>(first.in) * byte_size(first.weight.dtype);
  experts_.reserve(spec.experts->size());
  for (size_t i = 0; i < spec.experts->size(); ++i) {
    experts_.emplace_back(std::get<MatrixSpec>(part_of_expert(spec, i)), files);
  }
}

void MatrixExperts::read(int64_t first, int64_t count, void* rows) const {
  auto* const to = static_cast<uint8_t*>(rows);
  for_each_expert(
      out_, first, count,
      [&](int64_t expert, int64_t row, int64_t now, int64_t place) {
        experts_[expert].read(row, now, to + static_cast<size_t>(place) * row_bytes_);
      },
      [&](int64_t now, int64_t place) {
        std::memset(to + static_cast<size_t>(place) * row_bytes_, 0, static_cast<size_t>(now) * row_bytes_);
      });
}

std::vector<float> MatrixExperts::bias() const {
  std::vector<float> all;
  for (const MatrixSource& expert : experts_) {
    std::vector<float> own = expert.bias();
    if (own.empty()) continue;
    own.resize(static_cast<size_t>(expert_rows(out_)), 0.0f);
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

}  // namespace billfish
