#include "grammar/automaton.h"

#include <string>

#include "engine/error.h"

namespace billfish {
namespace {

void require(bool valid, const char* what) {
  if (!valid) throw Error("INVALID_OPTION", std::string("A grammar's ") + what + " are out of range.");
}

// Sorts edges by the state that they leave (the first of their `width` numbers); returns where each state's begin.
template <class T, class Make>
std::vector<uint32_t> by_state(std::span<const int32_t> numbers, size_t width, int32_t states, std::vector<T>& sorted,
                               const Make& make) {
  std::vector<uint32_t> first(static_cast<size_t>(states) + 1);
  for (size_t i = 0; i < numbers.size(); i += width) ++first[static_cast<size_t>(numbers[i]) + 1];
  for (size_t s = 1; s < first.size(); ++s) first[s] += first[s - 1];
  std::vector<uint32_t> next(first.begin(), first.end() - 1);
  sorted.resize(numbers.size() / width);
  for (size_t i = 0; i < numbers.size(); i += width) {
    sorted[next[static_cast<size_t>(numbers[i])]++] = make(numbers.subspan(i, width));
  }
  return first;
}

}  // namespace

Automaton::Automaton(int32_t states, std::span<const int32_t> byte_edges, std::span<const int32_t> calls,
                     std::span<const int32_t> rules) {
  const auto is_state = [&](int32_t state) { return state >= 0 && state < states; };
  require(states >= 0 && states <= max_states, "states");
  require(!rules.empty() && rules.size() % 2 == 0, "rules");
  is_end_.resize(static_cast<size_t>(states));
  for (size_t i = 0; i < rules.size(); i += 2) {
    require(is_state(rules[i]) && is_state(rules[i + 1]), "rules");
    rules_.push_back({rules[i], rules[i + 1]});
    is_end_[static_cast<size_t>(rules[i + 1])] = 1;
  }
  require(byte_edges.size() % 4 == 0, "edges");
  for (size_t i = 0; i < byte_edges.size(); i += 4) {
    const int32_t low = byte_edges[i + 1], high = byte_edges[i + 2];
    require(is_state(byte_edges[i]) && is_state(byte_edges[i + 3]) && 0 <= low && low <= high && high <= 255, "edges");
  }
  require(calls.size() % 3 == 0, "calls");
  for (size_t i = 0; i < calls.size(); i += 3) {
    const int32_t rule = calls[i + 1];
    require(is_state(calls[i]) && is_state(calls[i + 2]) && rule >= none && rule < static_cast<int32_t>(rules_.size()),
            "calls");
  }
  first_byte_edge_ = by_state(byte_edges, 4, states, byte_edges_, [](std::span<const int32_t> edge) {
    return ByteEdge{static_cast<uint8_t>(edge[1]), static_cast<uint8_t>(edge[2]), edge[3]};
  });
  first_call_ = by_state(calls, 3, states, calls_, [](std::span<const int32_t> call) {
    return Call{call[1], call[2]};
  });
}

}  // namespace billfish
