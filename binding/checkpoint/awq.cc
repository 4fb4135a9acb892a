// AWQ in AutoAWQ's GEMM layout, 4 bits:
//
//   qweight [in][out/8]      word of outputs 8c .. 8c+7 for one input
//   qzeros  [groups][out/8]  word of outputs 8c .. 8c+7 for one group
//   scales  [groups][out]
//
//   a word's nibbles, highest first:   output 8c +  7 5 3 1 6 4 2 0
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

constexpr int output_of_nibble[8] = {0, 2, 4, 6, 1, 3, 5, 7};
constexpr int nibble_of_output[8] = {0, 4, 1, 5, 2, 6, 3, 7};

// Swaps the bits `mask` of b with those `shift` above them of a, in every lane.
template <int lanes>
void swap_bits(uint32_t* __restrict a, uint32_t* __restrict b, int shift, uint32_t mask) {
  for (int lane = 0; lane < lanes; ++lane) {
    const uint32_t difference = ((a[lane] >> shift) ^ b[lane]) & mask;
    b[lane] ^= difference;
    a[lane] ^= difference << shift;
  }
}

// An 8 x 8 transpose of nibbles in every lane: swaps nibble j of words[k] and nibble k of words[j]. Halves first, then
// quarters, then single nibbles.
template <int lanes>
void transpose_nibbles(uint32_t words[8][lanes]) {
  for (const int k : {0, 1, 2, 3}) swap_bits<lanes>(words[k], words[k + 4], 16, 0x0000ffffu);
  for (const int k : {0, 1, 4, 5}) swap_bits<lanes>(words[k], words[k + 2], 8, 0x00ff00ffu);
  for (const int k : {0, 2, 4, 6}) swap_bits<lanes>(words[k], words[k + 1], 4, 0x0f0f0f0fu);
}

class AwqSource final : public QuantizedSource {
 public:
  AwqSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t groups)
      : QuantizedSource(spec, files, {spec.in, spec.out / 8}, {groups, spec.out}, {groups, spec.out / 8}) {}

 private:
  bool scales_by_group() const override { return true; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    const uint8_t* source = code_bytes();
    turn_round(shape_.words_per_row(), count, codes, [&](CodeBlock& block) {
      const int64_t begin = first + block.row;
      const bool whole = begin % 8 == 0 && block.rows == block_rows;
      for (int64_t i = 0; i < block.words; i += words_at_once) {
        if (whole) {
          fill_words<true>(source, block, i, begin);
        } else {
          fill_words<false>(source, block, i, begin);
        }
      }
    });
  }

  static constexpr int words_at_once = 8;  // enough lanes for the compiler to use vector registers

  // Words i, i + 1, ... of the block's rows, which start at output `begin`. Whole: 64 rows, which are exactly 8 stored
  // words per input; otherwise up to 9 words, and outputs at both ends are skipped.
  template <bool whole>
  void fill_words(const uint8_t* source, CodeBlock& block, int64_t i, int64_t begin) const {
    constexpr int columns = block_rows / 8 + (whole ? 0 : 1);
    constexpr int lanes = words_at_once * columns;
    const int64_t skip = whole ? 0 : begin % 8;
    const int64_t used = whole ? columns : (skip + block.rows + 7) / 8;
    const int64_t count = std::min<int64_t>(words_at_once, block.words - i);
    uint32_t words[8][lanes];
    if (!whole || count < words_at_once || (block.word + i + count) * 8 > shape_.in)
      std::memset(words, 0, sizeof words);
    for (int64_t word = 0; word < count; ++word) {
      for (int64_t k = 0; k < 8; ++k) {
        const int64_t input = (block.word + i + word) * 8 + k;
        if (input >= shape_.in) break;
        std::memcpy(words[k] + word * columns, source + (input * (shape_.out / 8) + begin / 8) * 4, used * 4);
      }
    }
    transpose_nibbles<lanes>(words);
    for (int j = 0; j < 8; ++j) {
      for (int column = 0; column < columns; ++column) {
        const int64_t row = column * 8 + output_of_nibble[j] - skip;
        if (!whole && (row < 0 || row >= block.rows)) continue;
        for (int64_t word = 0; word < count; ++word) block.codes[row][i + word] = words[j][word * columns + column];
      }
    }
  }

  void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t row = first + i;
        const uint32_t word = load<uint32_t>(words + (group * (shape_.out / 8) + row / 8) * 4);
        zeros[i * groups + group] = static_cast<uint8_t>(word >> (4 * nibble_of_output[row % 8]) & 0xf);
      }
    }
  }
};

}  // namespace

std::unique_ptr<CanonicalSource> open_awq(const QuantizedSpec& spec, const MappedFiles& files) {
  if (spec.bits != 4) refuse("Layer '" + spec.name + "' has " + std::to_string(spec.bits) + " bits; AWQ has 4");
  if (spec.out % 8 != 0) {
    refuse("Layer '" + spec.name + "' has " + std::to_string(spec.out) + " outputs; AWQ needs a multiple of 8");
  }
  if (spec.group_index) refuse("Layer '" + spec.name + "' has a group index, which AWQ does not know");
  return std::make_unique<AwqSource>(spec, files, (spec.in + spec.group_size - 1) / spec.group_size);
}

}  // namespace billfish
