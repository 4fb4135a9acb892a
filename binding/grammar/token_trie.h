// The tokens of a vocabulary by their bytes: a tree whose nodes lie in preorder, so that a walk is one pass over
// arrays.
#pragma once
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

namespace billfish {

class TokenTrie {
 public:
  using Node = uint32_t;

  // Token t has the bytes [offsets[t], offsets[t + 1]); one without bytes is in no node. Throws Error INVALID_OPTION
  // for offsets that are no ranges of `bytes`.
  TokenTrie(std::vector<uint8_t> bytes, std::vector<int32_t> offsets);

  // Makes the nodes, if nobody has: some tenths of a second for a large vocabulary, so not on the JavaScript thread.
  // What concerns nodes is called after it. Any thread.
  void make_nodes() {
    std::call_once(made_, [this] { make(); });
  }

  int32_t vocabulary() const { return static_cast<int32_t>(offsets_.size()) - 1; }
  std::span<const uint8_t> bytes_of(int32_t token) const;

  Node size() const { return static_cast<Node>(bytes_of_nodes_.size()); }
  uint8_t byte(Node node) const { return bytes_of_nodes_[node]; }
  // Past the node's subtree; its children begin at node + 1.
  Node end(Node node) const { return ends_[node]; }
  bool is_leaf(Node node) const { return ends_[node] == node + 1; }
  // The tokens that end at a node: several may have the same bytes.
  std::span<const int32_t> tokens(Node node) const {
    return {tokens_.data() + first_tokens_[node], first_tokens_[node + 1] - first_tokens_[node]};
  }

 private:
  void make();

  std::vector<uint8_t> bytes_;
  std::vector<int32_t> offsets_;
  std::once_flag made_;
  std::vector<uint8_t> bytes_of_nodes_;
  std::vector<Node> ends_;
  std::vector<uint32_t> first_tokens_;  // one more than nodes
  std::vector<int32_t> tokens_;
};

}  // namespace billfish
