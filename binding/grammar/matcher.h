// A text that is written under a grammar, token by token.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "engine/sampling.h"
#include "grammar/configurations.h"
#include "grammar/grammar.h"

namespace billfish {

class Matcher final : public TokenConstraint {
 public:
  enum class State : int32_t { refused, open, finished };

  // `end_tokens` are allowed where the text is complete. `skipped`: so many leading spaces do not belong to the text.
  Matcher(std::shared_ptr<Grammar> grammar, std::vector<int32_t> end_tokens, int32_t skipped);

  // Appends a token, which is no end token. refused: the grammar does not continue so, and the text is as before;
  // finished: the text is complete, and nothing can follow. Throws TooMuchWork.
  State accept(int32_t token);

  // Words of the vocabulary, a bit a token. No bit where a mask takes too much work: then failure() says so.
  std::span<const uint32_t> allowed() override;

  // Why no token is allowed; empty if none continues the text.
  std::string failure() const;

 private:
  const std::shared_ptr<Grammar> grammar_;
  const std::vector<int32_t> end_tokens_;
  mutable std::mutex mutex_;  // of what follows: a step that was given up may still ask while the next one begins
  Stepper stepper_;
  Configurations at_;
  int32_t skipped_;
  std::vector<uint32_t> allowed_;
  Configurations allowed_at_;  // what allowed_ is for, if is_known_
  bool is_known_ = false;
  std::string failure_;
};

}  // namespace billfish
