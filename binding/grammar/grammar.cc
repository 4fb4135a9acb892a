#include "grammar/grammar.h"

#include <utility>

#include "engine/sampling.h"

namespace billfish {
namespace {

// Steps that the mask of one token may take: some tenths of a second.
constexpr int64_t work_of_a_mask = 4'000'000;
// What is remembered: at most 20 MB of sets and 64 MB of tokens.
constexpr size_t max_sets = 16'384, max_remembered = 16 << 20;

void set_bits(std::span<const int32_t> tokens, std::span<uint32_t> allowed) {
  for (const int32_t token : tokens) allowed[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
}

uint64_t hash_of(const Configurations& configurations) {
  uint64_t hash = configurations.complete ? 1 : 0;
  for (const Configuration& configuration : configurations.all) {
    hash = (hash ^ configuration.key()) * 0x9e3779b97f4a7c15u;
    hash ^= hash >> 32;
  }
  return hash;
}

}  // namespace

int32_t KnownSets::start(int32_t state, WorkLimit& limit) {
  const auto known = starts_.find(state);
  if (known != starts_.end()) return known->second;
  const int32_t set = number_of(stepper_.start(state, limit));
  starts_.emplace(state, set);
  return set;
}

int32_t KnownSets::step(int32_t set, uint8_t byte, WorkLimit& limit) {
  auto& next = sets_[static_cast<size_t>(set)].next;
  if (next == nullptr) {
    next = std::make_unique<std::array<int32_t, 256>>();
    next->fill(-1);
  }
  int32_t& to = (*next)[byte];
  if (to < 0) to = number_of(stepper_.step(sets_[static_cast<size_t>(set)].configurations, byte, limit));
  return to;
}

int32_t KnownSets::number_of(Configurations configurations) {
  if (configurations.is_dead()) return dead;
  const uint64_t hash = hash_of(configurations);
  const auto [begin, end] = by_hash_.equal_range(hash);
  for (auto known = begin; known != end; ++known) {
    if (sets_[static_cast<size_t>(known->second)].configurations == configurations) return known->second;
  }
  const auto set = static_cast<int32_t>(sets_.size());
  sets_.push_back({std::move(configurations), nullptr});
  by_hash_.emplace(hash, set);
  return set;
}

RememberedTokens::RememberedTokens(FoundTokens found, int32_t vocabulary) : ends_(std::move(found.ends)) {
  ends_.shrink_to_fit();
  if (found.tokens.size() > allowed_words(vocabulary)) {
    many_.resize(allowed_words(vocabulary));
    set_bits(found.tokens, many_);
  } else {
    few_ = std::move(found.tokens);
    few_.shrink_to_fit();
  }
}

void RememberedTokens::allow(std::span<uint32_t> allowed) const {
  set_bits(few_, allowed);
  for (size_t word = 0; word < many_.size(); ++word) allowed[word] |= many_[word];
}

Grammar::Grammar(std::shared_ptr<TokenTrie> trie, Automaton automaton)
    : trie_(std::move(trie)), automaton_(std::move(automaton)), sets_(std::make_unique<KnownSets>(automaton_)) {}

void Grammar::allow(const Configurations& configurations, const ReturnStacks& stacks, int32_t skipped,
                    std::span<uint32_t> allowed) {
  trie_->make_nodes();
  const std::lock_guard lock(mutex_);
  forget_if_large();
  WorkLimit limit(work_of_a_mask);
  if (skipped > 0) return allow_after_spaces(configurations, stacks, skipped, allowed, limit);
  for (const Configuration& configuration : configurations.all) {
    const RememberedTokens& tokens = tokens_of(configuration.state, limit);
    tokens.allow(allowed);
    continue_below(tokens.ends(), configuration.stack, stacks, allowed, limit);
  }
}

// Between masks: nothing refers to sets then.
void Grammar::forget_if_large() {
  if (sets_->size() > max_sets) sets_ = std::make_unique<KnownSets>(automaton_);
  if (remembered_ > max_remembered) {
    tokens_by_state_.clear();
    remembered_ = 0;
  }
}

const RememberedTokens& Grammar::tokens_of(int32_t state, WorkLimit& limit) {
  const auto known = tokens_by_state_.find(state);
  if (known != tokens_by_state_.end()) return known->second;
  FoundTokens found;
  walk({0, trie_->size()}, sets_->start(state, limit), found, limit);
  const auto& tokens = tokens_by_state_.try_emplace(state, std::move(found), trie_->vocabulary()).first->second;
  remembered_ += tokens.numbers();
  return tokens;
}

// Collects the tokens of the subtrees in `range` that can be read from `set` on.
void Grammar::walk(Range range, int32_t set, FoundTokens& found, WorkLimit& limit) {
  path_.assign(1, {range.second, set});
  for (TokenTrie::Node node = range.first; node < range.second;) {
    while (path_.back().first <= node) path_.pop_back();
    const int32_t next = sets_->step(path_.back().second, trie_->byte(node), limit);
    if (next == KnownSets::dead) {
      node = trie_->end(node);
      continue;
    }
    const auto tokens = trie_->tokens(node);
    found.tokens.insert(found.tokens.end(), tokens.begin(), tokens.end());
    if (trie_->is_leaf(node)) {
      ++node;
      continue;
    }
    if (sets_->complete(next)) found.ends.push_back(node);
    if (sets_->reads_on(next)) {
      path_.emplace_back(trie_->end(node), next);
      ++node;
    } else {
      node = trie_->end(node);
    }
  }
}

// The rule on top of `stack` has ended at the nodes `ends`; the rest of their tokens is for the states below.
void Grammar::continue_below(std::span<const TokenTrie::Node> ends, ReturnStacks::Stack stack,
                             const ReturnStacks& stacks, std::span<uint32_t> allowed, WorkLimit& limit) {
  bool ends_here = true;  // the rules above may end without reading on
  while (ends_here && !ends.empty() && stack != ReturnStacks::bottom) {
    const int32_t set = sets_->start(stacks.state(stack), limit);
    ends_here = sets_->complete(set);
    stack = stacks.below(stack);
    FoundTokens found;
    for (const TokenTrie::Node node : ends) {
      limit.take();
      walk({node + 1, trie_->end(node)}, set, found, limit);
    }
    set_bits(found.tokens, allowed);
    continue_below(found.ends, stack, stacks, allowed, limit);  // no deeper than a token is long
  }
}

// Of every node of up to `skipped` spaces: its tokens, and what may follow it.
void Grammar::allow_after_spaces(const Configurations& configurations, const ReturnStacks& stacks, int32_t skipped,
                                 std::span<uint32_t> allowed, WorkLimit& limit) {
  Range children = {0, trie_->size()};
  for (int32_t spaces = 0;; ++spaces) {
    Range space = {children.second, children.second};
    for (TokenTrie::Node node = children.first; node < children.second; node = trie_->end(node)) {
      if (trie_->byte(node) == ' ') space = {node, trie_->end(node)};
    }
    const bool skips = spaces < skipped && space.first < space.second;
    for (const Configuration& configuration : configurations.all) {
      FoundTokens found;
      const int32_t set = sets_->start(configuration.state, limit);
      if (skips) {
        walk({children.first, space.first}, set, found, limit);
        walk({space.second, children.second}, set, found, limit);
      } else {
        walk(children, set, found, limit);
      }
      set_bits(found.tokens, allowed);
      continue_below(found.ends, configuration.stack, stacks, allowed, limit);
    }
    if (!skips) return;
    set_bits(trie_->tokens(space.first), allowed);
    children = {space.first + 1, space.second};
  }
}

}  // namespace billfish
