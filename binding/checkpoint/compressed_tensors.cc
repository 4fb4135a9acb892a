// compressed-tensors, P = 32 / bits codes a word. Format pack-quantized:
//
//   weight_packed      I32 [out][ceil(in/P)]     the canonical words already
//   weight_scale           [out][groups]
//   weight_zero_point  I32 [ceil(out/P)][groups]   word of outputs Pr .. Pr+P-1 for one group
//
// Formats int-quantized and naive-quantized store signed numbers, of which the code is number + 2^(bits-1):
//
//   weight             I8  [out][in]
//   weight_zero_point  I8  [out][groups]         also beside packed codes of older versions
//
// With strategy `tensor` there is one scale, and one zero point, for the whole weight: rows of them are then those of
// scale_rows outputs, and the reader repeats them for each of these.
#include <algorithm>
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

// Of scales.
int64_t rows_of(const QuantizedSpec& spec) { return divide_up(spec.out, spec.scale_rows); }

std::vector<int64_t> zeros_shape(const QuantizedSpec& spec, int64_t groups) {
  const bool packed = !spec.zeros || spec.zeros->dtype != DType::i8;
  return {packed ? divide_up(rows_of(spec), 32 / spec.bits) : rows_of(spec), groups};
}

DType zeros_type(const QuantizedSpec& spec) {
  return spec.zeros && spec.zeros->dtype == DType::i8 ? DType::i8 : DType::i32;
}

// Subclasses have the codes of a row in words or as numbers.
template <int bits>
class CompressedTensorsSource : public QuantizedSource {
 protected:
  static constexpr int per_word = 32 / bits;
  static constexpr uint32_t mask = (1u << bits) - 1;
  static constexpr int zero = 1 << (bits - 1);

  CompressedTensorsSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t columns, DType codes_type)
      : QuantizedSource(spec, files, {spec.out, columns}, {rows_of(spec), groups_of(spec)},
                        zeros_shape(spec, groups_of(spec)), codes_type, zeros_type(spec)) {}

  // Packs code(k) of every input k, in the order of act-order if the layer has it.
  template <class Code>
  void pack_row(uint32_t* codes, Code code) const {
    const int64_t words = shape_.words_per_row();
    const int32_t* order = shape_.order.empty() ? nullptr : shape_.order.data();
    for (int64_t word = 0; word < words; ++word) {
      const int64_t first = word * per_word;
      const int used = static_cast<int>(std::min<int64_t>(per_word, shape_.in - first));
      uint32_t packed = 0;
      for (int j = 0; j < used; ++j) packed |= uint32_t{code(order ? order[first + j] : first + j)} << (j * bits);
      codes[word] = packed;
    }
  }

  // The code of a signed number.
  uint8_t code_of(int8_t number, const TensorRef& tensor) const {
    if (number >= -zero && number < zero) return static_cast<uint8_t>(number + zero);
    refuse(tensor_text(tensor, files_) + " holds " + std::to_string(number) + ", which " + std::to_string(bits) +
           " bits (" + std::to_string(-zero) + " to " + std::to_string(zero - 1) + ") do not; correct num_bits");
  }

 private:
  static int64_t groups_of(const QuantizedSpec& spec) { return divide_up(spec.in, spec.group_size); }

  bool scales_by_group() const override { return false; }

  void read_zeros(int64_t first, int64_t count, const uint8_t* stored, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    if (spec_.zeros->dtype == DType::i8) {
      for (int64_t i = 0; i < count; ++i) {
        const uint8_t* line = stored + (first + i) / spec_.scale_rows * groups;
        for (int64_t group = 0; group < groups; ++group) {
          zeros[i * groups + group] = code_of(load<int8_t>(line + group), *spec_.zeros);
        }
      }
      return;
    }
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = (first + i) / spec_.scale_rows;
      const uint8_t* line = stored + row / per_word * groups * 4;
      const int64_t shift = row % per_word * bits;
      for (int64_t group = 0; group < groups; ++group) {
        zeros[i * groups + group] = static_cast<uint8_t>(load<uint32_t>(line + group * 4) >> shift & mask);
      }
    }
  }
};

template <int bits>
class PackedSource final : public CompressedTensorsSource<bits> {
  using Base = CompressedTensorsSource<bits>;
  using Base::mask, Base::per_word, Base::shape_;

 public:
  PackedSource(const QuantizedSpec& spec, const MappedFiles& files)
      : Base(spec, files, divide_up(spec.in, per_word), DType::i32) {}

 private:
  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t words = shape_.words_per_row();
    const uint8_t* source = tensor_bytes(this->spec_.codes, this->files_, first * words * 4, count * words * 4);
    if (!shape_.order.empty()) {
      for (int64_t row = 0; row < count; ++row) gather_row(source + row * words * 4, codes + row * words);
      return;
    }
    std::memcpy(codes, source, count * words * 4);
    const int64_t used = shape_.in % per_word;  // codes of the last word
    if (used == 0) return;
    const uint32_t used_bits = (1u << (used * bits)) - 1;
    for (int64_t row = 0; row < count; ++row) codes[(row + 1) * words - 1] &= used_bits;
  }

  void gather_row(const uint8_t* source, uint32_t* codes) const {
    std::vector<uint8_t> unpacked(shape_.words_per_row() * per_word);
    for (size_t word = 0; word * per_word < unpacked.size(); ++word) {
      const uint32_t stored = load<uint32_t>(source + word * 4);
      for (int j = 0; j < per_word; ++j)
        unpacked[word * per_word + j] = static_cast<uint8_t>(stored >> (j * bits) & mask);
    }
    this->pack_row(codes, [&](int64_t input) { return unpacked[input]; });
  }
};

template <int bits>
class NumbersSource final : public CompressedTensorsSource<bits> {
  using Base = CompressedTensorsSource<bits>;
  using Base::shape_, Base::spec_;

 public:
  NumbersSource(const QuantizedSpec& spec, const MappedFiles& files) : Base(spec, files, spec.in, DType::i8) {}

 private:
  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t words = shape_.words_per_row();
    const uint8_t* numbers = tensor_bytes(spec_.codes, this->files_, first * shape_.in, count * shape_.in);
    for (int64_t row = 0; row < count; ++row) {
      const uint8_t* line = numbers + row * shape_.in;
      this->pack_row(codes + row * words,
                     [&](int64_t input) { return this->code_of(load<int8_t>(line + input), spec_.codes); });
    }
  }
};

}  // namespace

std::unique_ptr<CanonicalSource> open_compressed_tensors(const QuantizedSpec& spec, const MappedFiles& files) {
  const bool packed = spec.codes.dtype != DType::i8;
  if (spec.bits == 4 && packed) return std::make_unique<PackedSource<4>>(spec, files);
  if (spec.bits == 4) return std::make_unique<NumbersSource<4>>(spec, files);
  if (packed) return std::make_unique<PackedSource<8>>(spec, files);
  return std::make_unique<NumbersSource<8>>(spec, files);
}

}  // namespace billfish
