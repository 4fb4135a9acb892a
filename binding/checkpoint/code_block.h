// Formats that store codes input by input ([in/P][out] or [in][out/P]) are turned round in blocks that stay in the
// first level cache: 64 words of 64 rows. A format fills block[word][row]; the block is then written out row by row.
#pragma once
#include <algorithm>
#include <cstdint>

namespace billfish {

constexpr int64_t block_words = 64, block_rows = 64;

struct CodeBlock {
  int64_t word = 0, words = 0;  // of every row: [word, word + words)
  int64_t row = 0, rows = 0;    // relative to the first row asked for
  uint32_t data[block_words][block_rows];
};

// Calls fill(block) for blocks that cover `words` words of `count` rows, and writes them to codes[count][words].
// Words outermost: neighbouring rows lie in the same pages of the source.
template <class Fill>
void turn_round(int64_t words, int64_t count, uint32_t* codes, Fill fill) {
  CodeBlock block;
  for (block.word = 0; block.word < words; block.word += block_words) {
    block.words = std::min(block_words, words - block.word);
    for (block.row = 0; block.row < count; block.row += block_rows) {
      block.rows = std::min(block_rows, count - block.row);
      fill(block);
      for (int64_t row = 0; row < block.rows; ++row) {
        uint32_t* target = codes + (block.row + row) * words + block.word;
        for (int64_t word = 0; word < block.words; ++word) target[word] = block.data[word][row];
      }
    }
  }
}

}  // namespace billfish
