#include "grammar/token_trie.h"

#include <algorithm>
#include <string>
#include <utility>

#include "engine/error.h"

namespace billfish {

TokenTrie::TokenTrie(std::vector<uint8_t> bytes, std::vector<int32_t> offsets)
    : bytes_(std::move(bytes)), offsets_(std::move(offsets)) {
  if (offsets_.empty() || offsets_.front() != 0 || static_cast<size_t>(offsets_.back()) != bytes_.size() ||
      !std::is_sorted(offsets_.begin(), offsets_.end())) {
    throw Error("INVALID_OPTION", "offsets must rise from 0 to the number of bytes, " + std::to_string(bytes_.size()));
  }
}

void TokenTrie::make() {
  for (int32_t token = 0; token < vocabulary(); ++token) {
    if (!bytes_of(token).empty()) tokens_.push_back(token);
  }
  std::sort(tokens_.begin(), tokens_.end(), [&](int32_t a, int32_t b) {
    const auto left = bytes_of(a), right = bytes_of(b);
    return std::lexicographical_compare(left.begin(), left.end(), right.begin(), right.end());
  });
  // In this order every token continues the path to the one before from where they differ.
  std::vector<Node> path;
  std::span<const uint8_t> before;
  for (uint32_t i = 0; i < tokens_.size(); ++i) {
    const auto own = bytes_of(tokens_[i]);
    const size_t shared =
        static_cast<size_t>(std::mismatch(own.begin(), own.end(), before.begin(), before.end()).first - own.begin());
    for (; path.size() > shared; path.pop_back()) ends_[path.back()] = size();
    for (size_t at = shared; at < own.size(); ++at) {
      path.push_back(size());
      bytes_of_nodes_.push_back(own[at]);
      ends_.push_back(0);
      first_tokens_.push_back(i);
    }
    before = own;
  }
  for (; !path.empty(); path.pop_back()) ends_[path.back()] = size();
  first_tokens_.push_back(static_cast<uint32_t>(tokens_.size()));
}

std::span<const uint8_t> TokenTrie::bytes_of(int32_t token) const {
  const auto t = static_cast<size_t>(token);
  return std::span(bytes_).subspan(static_cast<size_t>(offsets_[t]),
                                   static_cast<size_t>(offsets_[t + 1] - offsets_[t]));
}

}  // namespace billfish
