// GPTQ as AutoGPTQ and GPTQModel store it, P = 32 / bits codes a word:
//
//   qweight [in/P][out]   word of inputs Pr .. Pr+P-1 for one output, lowest bits = lowest input
//   qzeros  [groups][ceil(out/P)]   word of outputs Pc .. Pc+P-1 for one group
//   scales  [groups][out]
#include <cstring>

#include "checkpoint/quantized_source.h"
#include "checkpoint/tensor_check.h"

namespace billfish {
namespace {

template <int bits>
class GptqSource final : public QuantizedSource {
 public:
  GptqSource(const QuantizedSpec& spec, const MappedFiles& files, int64_t groups)
      : QuantizedSource(spec, files, {spec.in / per_word, spec.out}, {groups, spec.out},
                        {groups, (spec.out + per_word - 1) / per_word}) {}

 private:
  static constexpr int per_word = 32 / bits;
  static constexpr uint32_t mask = (1u << bits) - 1;

  bool scales_by_group() const override { return true; }

  void read_codes(int64_t first, int64_t count, uint32_t* codes) const override {
    if (shape_.order.empty()) {
      read_natural(first, count, codes);
    } else {
      read_ordered(first, count, codes);
    }
  }

  // Canonical words are the stored ones, transposed.
  void read_natural(int64_t first, int64_t count, uint32_t* codes) const {
    const uint8_t* source = code_bytes();
    uint32_t stored[block_words][block_rows];
    turn_round(shape_.words_per_row(), count, codes, [&](CodeBlock& block) {
      for (int64_t i = 0; i < block.words; ++i) {
        const int64_t word = (block.word + i) * shape_.out + first + block.row;
        std::memcpy(stored[i], source + word * 4, block.rows * 4);
      }
      for (int64_t row = 0; row < block.rows; ++row) {
        for (int64_t i = 0; i < block.words; ++i) block.codes[row][i] = stored[i][row];
      }
    });
  }

  // Act-order: every code of a canonical word comes from a different stored word. A strip of 64 outputs is copied
  // first, so that the gather runs in cache; in the file its rows are `out` words apart, often a power of two.
  void read_ordered(int64_t first, int64_t count, uint32_t* codes) const {
    const int64_t words = shape_.words_per_row();
    const uint8_t* source = code_bytes();
    std::vector<uint32_t> strip(words * block_rows);
    for (int64_t row = 0; row < count; row += block_rows) {
      const int64_t rows = std::min(block_rows, count - row);
      for (int64_t word = 0; word < words; ++word) {
        std::memcpy(&strip[word * block_rows], source + (word * shape_.out + first + row) * 4, rows * 4);
      }
      turn_round(words, rows, codes + row * words, [&](CodeBlock& block) {
        for (int64_t i = 0; i < block.words; ++i) gather_word(strip.data(), block, i);
      });
    }
  }

  // One canonical word of 64 rows, from strip[stored word][row].
  void gather_word(const uint32_t* strip, CodeBlock& block, int64_t i) const {
    constexpr int lanes = 16;  // as many as fit into vector registers side by side
    const int32_t* inputs = shape_.order.data() + (block.word + i) * per_word;
    for (int64_t row = 0; row < block_rows; row += lanes) {
      uint32_t gathered[lanes] = {};
      for (int j = 0; j < per_word; ++j) {
        const uint32_t input = static_cast<uint32_t>(inputs[j]);
        const uint32_t* stored = strip + input / per_word * block_rows + row;
        const int shift = input % per_word * bits;
        for (int lane = 0; lane < lanes; ++lane) gathered[lane] |= (stored[lane] >> shift & mask) << (j * bits);
      }
      for (int lane = 0; lane < lanes; ++lane) block.codes[row + lane][i] = gathered[lane];
    }
  }

  void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const override {
    const int64_t groups = shape_.groups();
    const int64_t words_a_group = (shape_.out + per_word - 1) / per_word;
    for (int64_t group = 0; group < groups; ++group) {
      for (int64_t i = 0; i < count; ++i) {
        const uint64_t row = first + i;
        const uint32_t word = load<uint32_t>(words + (group * words_a_group + row / per_word) * 4);
        zeros[i * groups + group] = static_cast<uint8_t>(word >> (row % per_word * bits) & mask);
      }
    }
  }
};

}  // namespace

std::unique_ptr<CanonicalSource> open_gptq(const QuantizedSpec& spec, const MappedFiles& files) {
  const int64_t per_word = 32 / spec.bits;
  if (spec.in % per_word != 0) {
    refuse("Layer '" + spec.name + "' has " + std::to_string(spec.in) + " inputs; GPTQ with " +
           std::to_string(spec.bits) + " bits needs a multiple of " + std::to_string(per_word));
  }
  const int64_t groups = (spec.in + spec.group_size - 1) / spec.group_size;
  if (spec.bits == 4) return std::make_unique<GptqSource<4>>(spec, files, groups);
  return std::make_unique<GptqSource<8>>(spec, files, groups);
}

}  // namespace billfish
