// A grammar and a vocabulary: which tokens may follow a state of the automaton, remembered for all who use the grammar.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <unordered_map>
#include <vector>

#include "grammar/automaton.h"
#include "grammar/configurations.h"
#include "grammar/token_trie.h"

namespace billfish {

// The tokens that an automaton reads from a state on, without looking at the stack below.
struct FoundTokens {
  std::vector<int32_t> tokens;
  // Nodes, with children, whose bytes end the state's rule: the rest of a token there is for the rule that called it.
  std::vector<TokenTrie::Node> ends;
};

// The same, to be kept: many tokens take a bit each of the whole vocabulary.
class RememberedTokens {
 public:
  RememberedTokens(FoundTokens found, int32_t vocabulary);
  void allow(std::span<uint32_t> allowed) const;
  std::span<const TokenTrie::Node> ends() const { return ends_; }
  size_t numbers() const { return few_.size() + many_.size() + ends_.size(); }

 private:
  std::vector<int32_t> few_;
  std::vector<uint32_t> many_;
  std::vector<TokenTrie::Node> ends_;
};

// The automaton made deterministic as far as texts have come: sets of configurations by number, and where bytes lead.
class KnownSets {
 public:
  explicit KnownSets(const Automaton& automaton) : stepper_(automaton) {}
  static constexpr int32_t dead = 0;

  int32_t start(int32_t state, WorkLimit& limit);
  int32_t step(int32_t set, uint8_t byte, WorkLimit& limit);
  bool complete(int32_t set) const { return sets_[static_cast<size_t>(set)].configurations.complete; }
  bool reads_on(int32_t set) const { return !sets_[static_cast<size_t>(set)].configurations.all.empty(); }
  size_t size() const { return sets_.size(); }

 private:
  struct Set {
    Configurations configurations;
    std::unique_ptr<std::array<int32_t, 256>> next;  // -1: not known yet
  };
  int32_t number_of(Configurations configurations);

  Stepper stepper_;
  std::vector<Set> sets_ = std::vector<Set>(1);
  std::unordered_map<int32_t, int32_t> starts_;
  std::unordered_multimap<uint64_t, int32_t> by_hash_;
};

class Grammar {
 public:
  Grammar(std::shared_ptr<TokenTrie> trie, Automaton automaton);

  const TokenTrie& trie() const { return *trie_; }
  const Automaton& automaton() const { return automaton_; }

  // Sets the bits of all tokens that may follow `configurations`, whose stacks are in `stacks`. `skipped`: so many
  // leading spaces of the next tokens do not count. Any thread. Throws TooMuchWork.
  void allow(const Configurations& configurations, const ReturnStacks& stacks, int32_t skipped,
             std::span<uint32_t> allowed);

 private:
  using Range = std::pair<TokenTrie::Node, TokenTrie::Node>;

  const RememberedTokens& tokens_of(int32_t state, WorkLimit& limit);
  void walk(Range range, int32_t set, FoundTokens& found, WorkLimit& limit);
  void continue_below(std::span<const TokenTrie::Node> ends, ReturnStacks::Stack stack, const ReturnStacks& stacks,
                      std::span<uint32_t> allowed, WorkLimit& limit);
  void allow_after_spaces(const Configurations& configurations, const ReturnStacks& stacks, int32_t skipped,
                          std::span<uint32_t> allowed, WorkLimit& limit);
  void forget_if_large();

  const std::shared_ptr<TokenTrie> trie_;
  const Automaton automaton_;
  std::mutex mutex_;  // of what follows
  std::unique_ptr<KnownSets> sets_;
  std::unordered_map<int32_t, RememberedTokens> tokens_by_state_;
  size_t remembered_ = 0;                                  // numbers in tokens_by_state_
  std::vector<std::pair<TokenTrie::Node, int32_t>> path_;  // of walk()
};

}  // namespace billfish
