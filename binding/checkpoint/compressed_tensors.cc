// compressed-tensors, format pack-quantized, P = 32 / bits codes a word:
//
//   weight_packed      [out][ceil(in/P)]   the canonical words already
//   weight_scale       [out][groups]
//   weight_zero_point  [ceil(out/P)][groups]   word of outputs Pr .. Pr+P-1 for one group
#include <algorithm>
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

template <int bits>
class CompressedTensorsSource final : public QuantizedSource {
 public:
  CompressedTensorsSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t groups)
      : QuantizedSource(spec, files, {spec.out, (spec.in + per_word - 1) / per_word}, {spec.out, groups},
                        {(spec.out + per_word - 1) / per_word, groups}) {}

 private:
  static constexpr int per_word = 32 / bits;
  static constexpr uint32_t mask = (1u << bits) - 1;

  bool scales_by_group() const override { return false; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const int64_t words = shape_.words_per_row();
    const uint8_t* source = tensor_bytes(spec_.codes, files_, first * words * 4, count * words * 4);
    if (!shape_.order.empty()) {
      std::vector<uint8_t> unpacked(words * per_word);
      for (int64_t row = 0; row < count; ++row) {
        gather_row(source + row * words * 4, unpacked.data(), codes + row * words);
      }
      return;
    }
    std::memcpy(codes, source, count * words * 4);
    const int64_t used = shape_.in % per_word;  // codes of the last word
    if (used == 0) return;
    const uint32_t used_bits = (1u << (used * bits)) - 1;
    for (int64_t row = 0; row < count; ++row) codes[(row + 1) * words - 1] &= used_bits;
  }

  // Act-order: the codes of one row, in the sorted order of the inputs.
  void gather_row(const uint8_t* source, uint8_t* unpacked, uint32_t* codes) const {
    const int64_t words = shape_.words_per_row();
    for (int64_t word = 0; word < words; ++word) {
      const uint32_t stored = load<uint32_t>(source + word * 4);
      uint8_t* target = unpacked + word * per_word;
      for (int j = 0; j < per_word; ++j) target[j] = static_cast<uint8_t>(stored >> (j * bits) & mask);
    }
    const int32_t* order = shape_.order.data();
    for (int64_t word = 0; word < words; ++word) {
      const int used = static_cast<int>(std::min<int64_t>(per_word, shape_.in - word * per_word));
      uint32_t gathered = 0;
      for (int j = 0; j < used; ++j) gathered |= uint32_t{unpacked[order[word * per_word + j]]} << (j * bits);
      codes[word] = gathered;
    }
  }

  void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = first + i;
      const uint8_t* line = words + row / per_word * groups * 4;
      const int64_t shift = row % per_word * bits;
      for (int64_t group = 0; group < groups; ++group) {
        zeros[i * groups + group] = static_cast<uint8_t>(load<uint32_t>(line + group * 4) >> shift & mask);
      }
    }
  }
};

}  // namespace

std::unique_ptr<CanonicalSource> open_compressed_tensors(const QuantizedSpec& spec, const MappedFiles& files) {
  const int64_t groups = (spec.in + spec.group_size - 1) / spec.group_size;
  if (spec.bits == 4) return std::make_unique<CompressedTensorsSource<4>>(spec, files, groups);
  return std::make_unique<CompressedTensorsSource<8>>(spec, files, groups);
}

}  // namespace billfish
