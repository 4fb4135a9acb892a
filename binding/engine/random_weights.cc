#include "engine/random_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "engine/error.h"
#include "engine/philox.h"

namespace billfish {
namespace {

// Random bytes that all rows are copied from, each row from another place on. 1 MiB and a little: it stays in a
// second-level cache, and what repeats is too far apart for anybody to notice.
class RandomBytes {
 public:
  static const RandomBytes& shared() {
    static const RandomBytes bytes;
    return bytes;
  }

  void copy(uint64_t place, size_t bytes, void* to) const {
    size_t from = place * 0x9E3779B97F4A7C15u % words * sizeof(uint32_t);
    for (auto* next = static_cast<uint8_t*>(to); bytes > 0;) {
      const size_t piece = std::min(bytes, words * sizeof(uint32_t) - from);
      std::memcpy(next, reinterpret_cast<const uint8_t*>(data_.data()) + from, piece);
      next += piece, bytes -= piece, from = 0;
    }
  }

 private:
  static constexpr size_t words = (size_t{1} << 18) + 4 * 13;

  RandomBytes() : data_(words) {
    for (size_t i = 0; i < words; i += 4) {
      const PhiloxCounter random = philox4x32({static_cast<uint32_t>(i), 0, 0, 0}, {1, 0});
      std::copy(random.begin(), random.end(), data_.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }

  std::vector<uint32_t> data_;
};

void write(DType type, float value, void* to) {
  if (type == DType::f32) {
    std::memcpy(to, &value, sizeof value);
    return;
  }
  const uint16_t half = type == DType::f16 ? float_to_f16(value) : float_to_bf16(value);
  std::memcpy(to, &half, sizeof half);
}

// Numbers of one type in [low, high], to be picked by random bytes: converting each one would take longer than all
// else.
class Palette {
 public:
  Palette(DType type, float low, float high) : size_(byte_size(type)) {
    if (size_ != 2 && type != DType::f32) throw Error("INTERNAL", "Random numbers are wanted of a type without them.");
    for (size_t i = 0; i < count; ++i) {
      write(type, low + (high - low) * static_cast<float>(i) / (count - 1), &elements_[i * size_]);
    }
  }

  // `elements` of them; which ones, a place of the random bytes says.
  void fill(uint64_t place, size_t elements, void* to) const {
    std::array<uint8_t, 4096> picks;
    auto* next = static_cast<uint8_t*>(to);
    for (size_t done = 0; done < elements; done += picks.size()) {
      const size_t piece = std::min(picks.size(), elements - done);
      RandomBytes::shared().copy(place + done, piece, picks.data());
      for (size_t i = 0; i < piece; ++i, next += size_) std::memcpy(next, &elements_[picks[i] * size_], size_);
    }
  }

 private:
  static constexpr size_t count = 256;
  size_t size_;
  std::array<uint8_t, count * sizeof(float)> elements_;
};

class RandomSource final : public CanonicalSource {
 public:
  explicit RandomSource(const CanonicalShape& shape)
      : shape_(shape), scales_(shape.scale_type, largest_scale(shape) / 2, largest_scale(shape)) {}

  const CanonicalShape& shape() const override { return shape_; }

  void read(int64_t first, int64_t count, CanonicalRows& rows) const override {
    const auto words = static_cast<size_t>(shape_.words_per_row()), groups = static_cast<size_t>(shape_.groups());
    const auto size = static_cast<size_t>(count), element = byte_size(shape_.scale_type);
    rows.first = first;
    rows.count = count;
    rows.codes.resize(size * words);
    rows.scales.resize(size * groups * element);
    rows.zeros.resize(shape_.has_zero_points ? size * groups : 0);
    rows.bias.assign(shape_.has_bias ? size : 0, 0.01f);
    for (size_t row = 0; row < size; ++row) {
      const uint64_t place = 3 * (static_cast<uint64_t>(first) + row);
      RandomBytes::shared().copy(place, words * sizeof(uint32_t), &rows.codes[row * words]);
      scales_.fill(place + 1, groups, &rows.scales[row * groups * element]);
      if (shape_.has_zero_points) RandomBytes::shared().copy(place + 2, groups, &rows.zeros[row * groups]);
    }
    for (uint8_t& zero : rows.zeros) zero &= static_cast<uint8_t>((1 << shape_.bits) - 1);
    clear_beyond_row(rows.codes);
  }

  uint64_t source_bytes() const override {
    const int64_t group = static_cast<int64_t>(byte_size(shape_.scale_type)) + (shape_.has_zero_points ? 1 : 0);
    return static_cast<uint64_t>(shape_.out * (shape_.words_per_row() * 4 + shape_.groups() * group));
  }

 private:
  static float largest_scale(const CanonicalShape& shape) {
    return 4.0f / (static_cast<float>(1 << shape.bits) * std::sqrt(static_cast<float>(shape.in)));
  }

  // A row's last word may have room for more codes than it has.
  void clear_beyond_row(std::vector<uint32_t>& codes) const {
    const int64_t bits = shape_.in * shape_.bits % 32;
    if (bits == 0) return;
    const auto per_row = static_cast<size_t>(shape_.words_per_row());
    for (size_t last = per_row - 1; last < codes.size(); last += per_row) codes[last] &= (uint32_t{1} << bits) - 1;
  }

  CanonicalShape shape_;
  Palette scales_;
};

}  // namespace

std::unique_ptr<CanonicalSource> random_quantized(const CanonicalShape& shape) {
  return std::make_unique<RandomSource>(shape);
}

void random_matrix_rows(int64_t first, int64_t count, int64_t in, DType type, void* out) {
  const float largest = 1 / std::sqrt(static_cast<float>(in));
  const Palette elements(type, -largest, largest);
  for (int64_t row = 0; row < count; ++row) {
    elements.fill(static_cast<uint64_t>(first + row), static_cast<size_t>(in),
                  static_cast<uint8_t*>(out) + static_cast<size_t>(row * in) * byte_size(type));
  }
}

std::vector<float> random_vector(int64_t length, float low, float high) {
  std::vector<float> values(static_cast<size_t>(length));
  Palette(DType::f32, low, high).fill(static_cast<uint64_t>(length), values.size(), values.data());
  return values;
}

}  // namespace billfish
