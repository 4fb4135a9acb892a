#include "engine/random_weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "engine/error.h"
#include "engine/philox.h"

namespace billfish {
namespace {

// Bytes that all rows are copied from cyclically, each row from a different offset. Small enough for the L2 cache;
// repetitions are far enough apart not to matter.
void copy_round(const std::vector<uint8_t>& bytes, size_t element, uint64_t place, size_t count, void* to) {
  size_t from = place * 0x9E3779B97F4A7C15u % (bytes.size() / element) * element;
  auto* next = static_cast<uint8_t*>(to);
  for (size_t left = count * element; left > 0;) {
    const size_t piece = std::min(left, bytes.size() - from);
    std::memcpy(next, bytes.data() + from, piece);
    next += piece, left -= piece, from = 0;
  }
}

constexpr size_t table_words = (size_t{1} << 17) + 4 * 13;

const std::vector<uint8_t>& random_bytes() {
  static const std::vector<uint8_t> bytes = [] {
    std::vector<uint8_t> made(table_words * sizeof(uint32_t));
    for (size_t i = 0; i < table_words; i += 4) {
      const PhiloxCounter random = philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {1, 0});
      std::memcpy(&made[i * sizeof(uint32_t)], random.data(), sizeof random);
    }
    return made;
  }();
  return bytes;
}

void write(DType type, float value, void* to) {
  if (type == DType::f32) {
    std::memcpy(to, &value, sizeof value);
    return;
  }
  if (type == DType::f8_e4m3 || type == DType::f8_e8m0) {  // rounded down; for e4m3 the exponent's bias is 120 less
    const uint32_t bits = float_to_bits(value);
    *static_cast<uint8_t*>(to) = static_cast<uint8_t>(type == DType::f8_e8m0 ? bits >> 23 : (bits >> 20) - (120u << 3));
    return;
  }
  const uint16_t half = type == DType::f16 ? float_to_f16(value) : float_to_bf16(value);
  std::memcpy(to, &half, sizeof half);
}

class RandomSource final : public CanonicalSource {
 public:
  explicit RandomSource(const CanonicalShape& shape)
      : shape_(shape),
        scales_(shape.scale_type, shape.has_output_scales ? 1 : largest_scale(shape) / 2,
                shape.has_output_scales ? 1.9f : largest_scale(shape)) {}

  const CanonicalShape& shape() const override { return shape_; }

  void read(int64_t first, int64_t count, CanonicalRows& rows) const override {
    const auto words = static_cast<size_t>(shape_.words_per_row()), groups = static_cast<size_t>(shape_.groups());
    const auto size = static_cast<size_t>(count), element = byte_size(shape_.scale_type);
    rows.first = first;
    rows.count = count;
    rows.codes.resize(size * words);
    rows.scales.resize(size * groups * element);
    rows.zeros.resize(shape_.has_zero_points ? size * groups : 0);
    rows.output_scales.assign(shape_.has_output_scales ? size : 0, largest_scale(shape_) / 2);
    rows.bias.assign(shape_.has_bias ? size : 0, 0.01f);
    for (size_t row = 0; row < size; ++row) {
      const uint64_t place = 3 * (static_cast<uint64_t>(first) + row);
      copy_round(random_bytes(), sizeof(uint32_t), place, words, &rows.codes[row * words]);
      scales_.fill(place + 1, groups, &rows.scales[row * groups * element]);
      if (shape_.has_zero_points) copy_round(random_bytes(), 1, place + 2, groups, &rows.zeros[row * groups]);
    }
    for (uint8_t& zero : rows.zeros) zero &= static_cast<uint8_t>((1 << shape_.bits) - 1);
    if (shape_.codes == CodeType::e4m3) {
      for (uint32_t& word : rows.codes) word &= 0xbfbfbfbfu;  // no NaN, and below 2
    }
    clear_beyond_row(rows.codes);
  }

 private:
  static float largest_scale(const CanonicalShape& shape) {
    const int range = shape.codes == CodeType::integer ? 1 << shape.bits : shape.codes == CodeType::e4m3 ? 4 : 12;
    return 4.0f / (static_cast<float>(range) * std::sqrt(static_cast<float>(shape.in)));
  }

  // A row's last word may be only partly used.
  void clear_beyond_row(std::vector<uint32_t>& codes) const {
    const int64_t bits = shape_.in * shape_.bits % 32;
    if (bits == 0) return;
    const auto per_row = static_cast<size_t>(shape_.words_per_row());
    for (size_t last = per_row - 1; last < codes.size(); last += per_row) codes[last] &= (uint32_t{1} << bits) - 1;
  }

  CanonicalShape shape_;
  RandomNumbers scales_;
};

}  // namespace

RandomNumbers::RandomNumbers(DType type, float low, float high) : size_(byte_size(type)) {
  if (size_ != 2 && type != DType::f32 && type != DType::f8_e4m3 && type != DType::f8_e8m0)
    throw Error("INTERNAL", "Random numbers are wanted of a type without them.");
  const std::vector<uint8_t>& random = random_bytes();
  elements_.resize(random.size() / 4 * size_);
  for (size_t i = 0; i < random.size() / 4; ++i) {
    write(type, low + (high - low) * static_cast<float>(random[4 * i]) / 255, &elements_[i * size_]);
  }
}

void RandomNumbers::fill(uint64_t place, size_t count, void* to) const {
  copy_round(elements_, size_, place, count, to);
}

std::unique_ptr<CanonicalSource> random_quantized(const CanonicalShape& shape) {
  return std::make_unique<RandomSource>(shape);
}

RandomMatrix::RandomMatrix(int64_t in, DType type)
    : in_(in),
      type_(type),
      numbers_(type, -1 / std::sqrt(static_cast<float>(in)), 1 / std::sqrt(static_cast<float>(in))) {}

void RandomMatrix::read(int64_t first, int64_t count, void* out) const {
  const auto in = static_cast<size_t>(in_);
  for (int64_t row = 0; row < count; ++row) {
    numbers_.fill(static_cast<uint64_t>(first + row), in,
                  static_cast<uint8_t*>(out) + static_cast<size_t>(row) * in * byte_size(type_));
  }
}

std::vector<float> random_vector(int64_t length, float low, float high) {
  std::vector<float> values(static_cast<size_t>(length));
  RandomNumbers(DType::f32, low, high).fill(static_cast<uint64_t>(length), values.size(), values.data());
  return values;
}

}  // namespace billfish
