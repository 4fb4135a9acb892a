#include "grammar/matcher.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"

namespace billfish {
namespace {

// Steps that reading one token may take.
constexpr int64_t work_of_a_token = 1'000'000;
// Return addresses of a text: it is nested about as deeply, or ambiguous.
constexpr size_t max_stacks = 1 << 20;

}  // namespace

Matcher::Matcher(std::shared_ptr<Grammar> grammar, std::vector<int32_t> end_tokens, int32_t skipped)
    : grammar_(std::move(grammar)),
      end_tokens_(std::move(end_tokens)),
      stepper_(grammar_->automaton()),
      skipped_(skipped),
      allowed_(allowed_words(grammar_->trie().vocabulary())) {
  for (const int32_t token : end_tokens_) {
    if (token >= 0 && token < grammar_->trie().vocabulary()) continue;
    throw Error("INVALID_OPTION", "The end token " + std::to_string(token) + " is not in the vocabulary.");
  }
  WorkLimit limit(work_of_a_token);
  at_ = stepper_.start(grammar_->automaton().rule(0).start, limit);
}

Matcher::State Matcher::accept(int32_t token) {
  const std::lock_guard lock(mutex_);
  if (token < 0 || token >= grammar_->trie().vocabulary()) return State::refused;
  auto bytes = grammar_->trie().bytes_of(token);
  int32_t skipped = skipped_;
  for (; skipped > 0 && !bytes.empty() && bytes.front() == ' '; --skipped) bytes = bytes.subspan(1);
  if (!bytes.empty()) skipped = 0;
  WorkLimit limit(work_of_a_token);
  Configurations next = at_;
  for (const uint8_t byte : bytes) {
    next = stepper_.step(next, byte, limit);
    if (next.is_dead()) return State::refused;
  }
  if (stepper_.stacks().size() > max_stacks) throw TooMuchWork();
  is_known_ = is_known_ && skipped == skipped_;
  at_ = std::move(next);
  skipped_ = skipped;
  return at_.all.empty() ? State::finished : State::open;
}

std::span<const uint32_t> Matcher::allowed() {
  const std::lock_guard lock(mutex_);
  if (is_known_ && allowed_at_ == at_) return allowed_;
  std::fill(allowed_.begin(), allowed_.end(), 0);
  try {
    grammar_->allow(at_, stepper_.stacks(), skipped_, allowed_);
    if (at_.complete) {
      for (const int32_t token : end_tokens_) allowed_[static_cast<size_t>(token) / 32] |= 1u << (token % 32);
    }
    allowed_at_ = at_;
    is_known_ = true;
  } catch (const std::exception& error) {  // of a stage's thread, which has other sequences, too
    failure_ = error.what();
    is_known_ = false;
    std::fill(allowed_.begin(), allowed_.end(), 0);
  }
  return allowed_;
}

std::string Matcher::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

}  // namespace billfish
