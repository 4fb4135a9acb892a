// Formats that store codes input by input ([in/P][out] or [in][out/P]) are transposed in blocks that stay in the L1
// cache: 64 words of 64 rows. Both sides are then read and written in whole cache lines, although their rows may be a
// power of two apart.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

namespace billfish {

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
