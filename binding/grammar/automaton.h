// A context-free grammar over bytes as a pushdown automaton: one finite automaton a rule, whose edges read a byte or
// call a rule. Built in TypeScript (src/chat/structured/automaton-builder.ts), which also removes what can never be
// completed and refuses left recursion; what is checked here is that nothing reaches outside the arrays.
#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace billfish {

class Automaton {
 public:
  struct ByteEdge {
    uint8_t low, high;  // inclusive
    int32_t to;
  };
  struct Call {
    int32_t rule;  // `none`: goes to `to` without reading anything
    int32_t to;
  };
  struct Rule {
    int32_t start, end;
  };
  static constexpr int32_t none = -1;
  static constexpr int32_t max_states = 1 << 20;

  // byte_edges: four numbers an edge, from, low, high, to; calls: three, from, rule or -1, to; rules: two, start and
  // end. Rule 0 is the whole text. Throws Error INVALID_OPTION for numbers out of range.
  Automaton(int32_t states, std::span<const int32_t> byte_edges, std::span<const int32_t> calls,
            std::span<const int32_t> rules);

  int32_t states() const { return static_cast<int32_t>(is_end_.size()); }
  std::span<const ByteEdge> byte_edges(int32_t state) const { return of(state, byte_edges_, first_byte_edge_); }
  std::span<const Call> calls(int32_t state) const { return of(state, calls_, first_call_); }
  const Rule& rule(int32_t rule) const { return rules_[static_cast<size_t>(rule)]; }
  bool is_end(int32_t state) const { return is_end_[static_cast<size_t>(state)] != 0; }
  // Whether all that a state does is end its rule.
  bool only_ends(int32_t state) const { return is_end(state) && byte_edges(state).empty() && calls(state).empty(); }

 private:
  template <class T>
  static std::span<const T> of(int32_t state, const std::vector<T>& edges, const std::vector<uint32_t>& first) {
    const auto s = static_cast<size_t>(state);
    return {edges.data() + first[s], first[s + 1] - first[s]};
  }

  std::vector<ByteEdge> byte_edges_;  // by state
  std::vector<Call> calls_;           // by state
  std::vector<uint32_t> first_byte_edge_, first_call_;
  std::vector<Rule> rules_;
  std::vector<uint8_t> is_end_;
};

}  // namespace billfish
