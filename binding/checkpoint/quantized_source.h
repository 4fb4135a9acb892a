// What all format readers share: the checked spec, the order of the inputs, scales, zeros and bias, and the
// transposition of codes. A format adds where its codes are.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#include "checkpoint/readers.h"

namespace billfish {

constexpr int64_t divide_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

class QuantizedSource : public CanonicalSource {
 public:
  const CanonicalShape& shape() const override { return shape_; }
  void read(int64_t first, int64_t count, CanonicalRows& rows) const override;

 protected:
  // Checks everything. The shapes of codes, scales and zeros depend on the format and are passed as arguments, as are
  // the types of codes and zeros where they are not packed into words.
  QuantizedSource(const QuantizedSpec& spec, const MappedFiles& files, const std::vector<int64_t>& codes_shape,
                  const std::vector<int64_t>& scales_shape, const std::vector<int64_t>& zeros_shape,
                  DType codes_type = DType::i32, DType zeros_type = DType::i32);

  // [count][words_per_row] canonical codes of rows [first, first + count).
  virtual void read_codes(int64_t first, int64_t count, uint32_t* codes) const = 0;
  // The stored zero points of a row, for all groups: zeros[row][group]. `words`: all words of the tensor.
  virtual void read_zeros(int64_t first, int64_t count, const uint8_t* words, uint8_t* zeros) const = 0;
  // True if scales are stored [groups][out], false for [out][groups] or more columns.
  virtual bool scales_by_group() const = 0;

  const uint8_t* code_bytes() const;

  QuantizedSpec spec_;
  MappedFiles files_;
  CanonicalShape shape_;

 private:
  void read_scales(int64_t first, int64_t count, CanonicalRows& rows) const;
  [[noreturn]] void refuse_scale(int64_t row, int64_t group, float value) const;

  std::vector<float> bias_;
  float output_scale_ = 1;
};

std::unique_ptr<CanonicalSource> open_gptq(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_awq(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_awq_gemv(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_compressed_tensors(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_fp8(const QuantizedSpec& spec, const MappedFiles& files);
std::unique_ptr<CanonicalSource> open_fp4(const QuantizedSpec& spec, const MappedFiles& files);

// A part of a quantized layer: some of its outputs and inputs, with zeros in between. Everything below sees the stored
// layer, everything above an ordinary canonical one, so padding and sharding are independent of formats.
// Throws INVALID_CHECKPOINT if a group of the part would mix inputs of several stored groups, or if inputs of an
// act-order layer are selected although nothing says that they are in its order.
std::unique_ptr<CanonicalSource> part_of(std::unique_ptr<CanonicalSource> stored, const QuantizedSpec& spec,
                                         const MappedFiles& files);

// Formats that store codes input by input ([in/P][out] or [in][out/P]) are transposed in blocks that stay in the L1
// cache: 64 words of 64 rows. Both sides are then read and written in whole cache lines, although their rows may be a
// power of two apart.
constexpr int64_t block_words = 64, block_rows = 64;

struct CodeBlock {
  int64_t word = 0, words = 0;  // of every row: [word, word + words)
  int64_t row = 0, rows = 0;    // relative to the first row asked for
  uint32_t codes[block_rows][block_words];
};

// Calls fill(block), which writes block.codes[row][word], for blocks that cover `words` words of `count` rows, and
// copies them to codes[count][words]. Words are the outer loop, since neighboring rows are in the same pages of the
// source.
template <class Fill>
void turn_round(int64_t words, int64_t count, uint32_t* codes, Fill fill) {
  CodeBlock block;
  for (block.word = 0; block.word < words; block.word += block_words) {
    block.words = std::min(block_words, words - block.word);
    for (block.row = 0; block.row < count; block.row += block_rows) {
      block.rows = std::min(block_rows, count - block.row);
      fill(block);
      for (int64_t row = 0; row < block.rows; ++row) {
        std::memcpy(codes + (block.row + row) * words + block.word, block.codes[row], block.words * 4);
      }
    }
  }
}

}  // namespace billfish
