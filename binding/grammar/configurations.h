// Where an automaton may be after some text. It is not deterministic, so these are several configurations: a state that
// reads a byte next, and the states to return to from the rules that are being read.
#pragma once
#include <cstdint>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "engine/error.h"
#include "grammar/automaton.h"

namespace billfish {

// Stacks of return states that share their lower parts. Equal stacks are the same number.
class ReturnStacks {
 public:
  using Stack = uint32_t;
  static constexpr Stack bottom = 0;

  Stack push(int32_t state, Stack below);
  int32_t state(Stack stack) const { return entries_[stack].state; }
  Stack below(Stack stack) const { return entries_[stack].below; }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    int32_t state;
    Stack below;
  };
  std::vector<Entry> entries_ = {{Automaton::none, bottom}};
  std::unordered_map<uint64_t, Stack> known_;
};

struct Configuration {
  int32_t state;
  ReturnStacks::Stack stack;
  uint64_t key() const { return static_cast<uint64_t>(stack) << 32 | static_cast<uint32_t>(state); }
  friend bool operator==(const Configuration&, const Configuration&) = default;
};

struct Configurations {
  std::vector<Configuration> all;  // in the order of their keys
  bool complete = false;           // the rule at the bottom of the stacks may end here
  bool is_dead() const { return all.empty() && !complete; }
  friend bool operator==(const Configurations&, const Configurations&) = default;
};

// A grammar asks for more work than a token may take: it is far too ambiguous.
struct TooMuchWork : Error {
  TooMuchWork()
      : Error("INVALID_OPTION", "The grammar is too ambiguous: one token takes too much work. Simplify it.") {}
};

// Counts down until it throws TooMuchWork.
class WorkLimit {
 public:
  explicit WorkLimit(int64_t steps) : left_(steps) {}
  void take(int64_t steps = 1) {
    if ((left_ -= steps) < 0) throw TooMuchWork();
  }

 private:
  int64_t left_;
};

// Computes the configurations that follow others.
class Stepper {
 public:
  explicit Stepper(const Automaton& automaton) : automaton_(automaton) {}

  // Everything that `state` leads to without reading a byte, above an empty stack.
  Configurations start(int32_t state, WorkLimit& limit);
  Configurations step(const Configurations& from, uint8_t byte, WorkLimit& limit);
  const ReturnStacks& stacks() const { return stacks_; }

 private:
  Configurations close(WorkLimit& limit);  // of pending_
  void reach(Configuration configuration) {
    if (seen_.insert(configuration.key()).second) pending_.push_back(configuration);
  }

  const Automaton& automaton_;
  ReturnStacks stacks_;
  std::vector<Configuration> pending_;
  std::unordered_set<uint64_t> seen_;
};

}  // namespace billfish
