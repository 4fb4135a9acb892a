#include "grammar/configurations.h"

#include <algorithm>

namespace billfish {

ReturnStacks::Stack ReturnStacks::push(int32_t state, Stack below) {
  const uint64_t key = static_cast<uint64_t>(below) << 32 | static_cast<uint32_t>(state);
  const auto [found, is_new] = known_.try_emplace(key, static_cast<Stack>(entries_.size()));
  if (is_new) entries_.push_back({state, below});
  return found->second;
}

Configurations Stepper::start(int32_t state, WorkLimit& limit) {
  pending_.clear();
  seen_.clear();
  reach({state, ReturnStacks::bottom});
  return close(limit);
}

Configurations Stepper::step(const Configurations& from, uint8_t byte, WorkLimit& limit) {
  pending_.clear();
  seen_.clear();
  for (const Configuration& configuration : from.all) {
    const auto edges = automaton_.byte_edges(configuration.state);
    limit.take(static_cast<int64_t>(edges.size()));
    for (const Automaton::ByteEdge& edge : edges) {
      if (edge.low <= byte && byte <= edge.high) reach({edge.to, configuration.stack});
    }
  }
  return close(limit);
}

Configurations Stepper::close(WorkLimit& limit) {
  Configurations closed;
  while (!pending_.empty()) {
    limit.take();
    const Configuration at = pending_.back();
    pending_.pop_back();
    if (!automaton_.byte_edges(at.state).empty()) closed.all.push_back(at);
    for (const Automaton::Call& call : automaton_.calls(at.state)) {
      if (call.rule == Automaton::none) {
        reach({call.to, at.stack});
      } else {
        // Nothing is left to do behind a call at a rule's end, so lists that recurse there keep their stack flat.
        const auto stack = automaton_.only_ends(call.to) ? at.stack : stacks_.push(call.to, at.stack);
        reach({automaton_.rule(call.rule).start, stack});
      }
    }
    if (!automaton_.is_end(at.state)) continue;
    if (at.stack == ReturnStacks::bottom) {
      closed.complete = true;
    } else {
      reach({stacks_.state(at.stack), stacks_.below(at.stack)});
    }
  }
  std::sort(closed.all.begin(), closed.all.end(),
            [](const Configuration& a, const Configuration& b) { return a.key() < b.key(); });
  return closed;
}

}  // namespace billfish
