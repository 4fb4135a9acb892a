// compressed-tensors, format pack-quantized, P = 32 / bits codes a word:
//
//   weight_packed      [out][ceil(in/P)]   the canonical words already
//   weight_scale       [out][groups]
//   weight_zero_point  [ceil(out/P)][groups]   word of outputs Pr .. Pr+P-1 for one group
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

class CompressedTensorsSource final : public QuantizedSource {
 public:
  CompressedTensorsSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t codes_a_word, int64_t groups)
      : QuantizedSource(spec, files, {spec.out, (spec.in + codes_a_word - 1) / codes_a_word}, {spec.out, groups},
                        {(spec.out + codes_a_word - 1) / codes_a_word, groups}),
        codes_a_word_(codes_a_word) {}

 private:
  bool scales_by_group() const override { return false; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t words = shape_.words_per_row();
    const uint8_t* source = tensor_bytes(spec_.codes, files_, first * words * 4, count * words * 4);
    if (!shape_.order.empty()) {
      for (int64_t row = 0; row < count; ++row) gather_row(source + row * words * 4, codes + row * words);
      return;
    }
    std::memcpy(codes, source, count * words * 4);
    const int64_t used = shape_.in % codes_a_word_;  // codes of the last word
    if (used == 0) return;
    const uint32_t mask = (1u << (used * shape_.bits)) - 1;
    for (int64_t row = 0; row < count; ++row) codes[(row + 1) * words - 1] &= mask;
  }

  // Act-order: the codes of one row, in the sorted order of the inputs.
  void gather_row(const uint8_t* source, uint32_t* codes) const {
    const int bits = shape_.bits;
    const uint32_t mask = (1u << bits) - 1;
    std::memset(codes, 0, shape_.words_per_row() * 4);
    for (int64_t k = 0; k < shape_.in; ++k) {
      const int64_t input = shape_.order[k];
      const uint32_t word = load<uint32_t>(source + input / codes_a_word_ * 4);
      const uint32_t code = word >> (input % codes_a_word_ * bits) & mask;
      codes[k / codes_a_word_] |= code << (k % codes_a_word_ * bits);
    }
  }

  void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    const uint32_t mask = (1u << shape_.bits) - 1;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      const uint8_t* line = words + row / codes_a_word_ * groups * 4;
      const int64_t shift = row % codes_a_word_ * shape_.bits;
      for (int64_t group = 0; group < groups; ++group) {
        zeros[i * groups + group] = static_cast<uint8_t>(load<uint32_t>(line + group * 4) >> shift & mask);
      }
    }
  }

  int64_t codes_a_word_;
};

}  // namespace

std::unique_ptr<CanonicalSource> open_compressed_tensors(const QuantizedSpec& spec, const MappedFiles& files) {
  return std::make_unique<CompressedTensorsSource>(spec, files, 32 / spec.bits,
                                                   (spec.in + spec.group_size - 1) / spec.group_size);
}

}  // namespace billfish
