// Masks of grammars: a token is allowed if and only if it can be read.
#include "grammar/matcher.h"

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "engine/error.h"
#include "support/check.h"

using namespace billfish;

namespace {

std::shared_ptr<TokenTrie> trie_of(const std::vector<std::string>& tokens) {
  std::vector<uint8_t> bytes;
  std::vector<int32_t> offsets = {0};
  for (const std::string& token : tokens) {
    bytes.insert(bytes.end(), token.begin(), token.end());
    offsets.push_back(static_cast<int32_t>(bytes.size()));
  }
  return std::make_shared<TokenTrie>(bytes, offsets);
}

// Rule 0 is a list of one or more of rule 1: 'a' or a list in parentheses, which may be empty.
Automaton lists() {
  const std::vector<int32_t> bytes = {2, 'a', 'a', 3, 2, '(', '(', 4, 5, ')', ')', 3};
  const std::vector<int32_t> calls = {0, 1, 1, 1, -1, 0, 4, 0, 5, 4, -1, 5};
  const std::vector<int32_t> rules = {0, 1, 2, 3};
  return Automaton(6, bytes, calls, rules);
}

std::vector<std::string> random_tokens(unsigned seed, size_t count) {
  std::mt19937 random(seed);
  std::vector<std::string> tokens = {"", "(", ")", "a", "b", "a"};
  while (tokens.size() < count) {
    std::string token;
    for (size_t length = 1 + random() % 7; token.size() < length;) token += "(()))aab"[random() % 8];
    tokens.push_back(token);
  }
  return tokens;
}

bool is_set(std::span<const uint32_t> bits, size_t token) { return (bits[token / 32] >> (token % 32) & 1) != 0; }

}  // namespace

TEST(a_token_is_allowed_if_it_can_be_read) {
  const std::vector<std::string> tokens = random_tokens(1, 300);
  const auto trie = trie_of(tokens);
  std::mt19937 random(2);
  for (const int32_t skipped : {0, 2}) {
    for (int text = 0; text < 20; ++text) {
      const auto grammar = std::make_shared<Grammar>(trie, lists());
      std::vector<int32_t> read;
      const auto matcher = [&] {
        auto fresh = std::make_unique<Matcher>(grammar, std::vector<int32_t>{4}, skipped);
        for (const int32_t token : read) REQUIRE(fresh->accept(token) == Matcher::State::open);
        return fresh;
      };
      const auto writer = matcher();
      for (int step = 0; step < 12; ++step) {
        const auto allowed = writer->allowed();
        std::vector<int32_t> next;
        std::string so_far;
        for (const int32_t token : read) so_far += tokens[static_cast<size_t>(token)];
        for (size_t token = 1; token < tokens.size(); ++token) {
          if (token == 4) continue;  // the end
          const bool reads = matcher()->accept(static_cast<int32_t>(token)) != Matcher::State::refused;
          CHECK_MESSAGE(is_set(allowed, token) == reads, "'" << tokens[token] << "' after '" << so_far << "'");
          if (reads) next.push_back(static_cast<int32_t>(token));
        }
        CHECK(!is_set(allowed, 0));
        const auto opened = std::count(so_far.begin(), so_far.end(), '(');
        const auto closed = std::count(so_far.begin(), so_far.end(), ')');
        CHECK(is_set(allowed, 4) == (!read.empty() && opened == closed));
        REQUIRE(!next.empty());
        read.push_back(next[random() % next.size()]);
        REQUIRE(writer->accept(read.back()) == Matcher::State::open);
      }
    }
  }
}

TEST(leading_spaces_that_are_stripped_do_not_count) {
  const auto trie = trie_of({"a", " a", "  a", "   a", " ", "  ", "   "});
  const std::vector<int32_t> bytes = {0, 'a', 'a', 1}, rules = {0, 1};
  const auto grammar = std::make_shared<Grammar>(trie, Automaton(2, bytes, {}, rules));
  Matcher matcher(grammar, {}, 2);
  CHECK(matcher.allowed()[0] == 0b0110111);
  CHECK(matcher.accept(4) == Matcher::State::open);
  CHECK(matcher.allowed()[0] == 0b0010011);
  CHECK(matcher.accept(1) == Matcher::State::finished);
  CHECK(matcher.allowed()[0] == 0);
}

TEST(an_ambiguous_grammar_ends_in_an_error) {
  // Every 'a' opens either of two brackets, so a text has as many readings as there are sets of its characters.
  const std::vector<int32_t> bytes = {0, 'a', 'a', 2, 0, 'a', 'a', 3, 4, 'b', 'b', 1, 5, 'c', 'c', 1};
  const std::vector<int32_t> calls = {2, 0, 4, 3, 0, 5, 0, -1, 1};
  const std::vector<int32_t> rules = {0, 1};
  const auto grammar = std::make_shared<Grammar>(trie_of({"a", "b", "c"}), Automaton(6, bytes, calls, rules));
  Matcher matcher(grammar, {}, 0);
  CHECK_THROWS(
      [&] {
        for (int i = 0; i < 40; ++i) matcher.accept(0);
      }(),
      "INVALID_OPTION");
}

TEST(what_is_no_automaton_or_vocabulary_is_refused) {
  const std::vector<int32_t> rules = {0, 1}, wrong_rule = {0, 5}, edge = {0, 'a', 'a', 9}, call = {0, 7, 1};
  CHECK_THROWS(Automaton(2, {}, {}, {}), "INVALID_OPTION");
  CHECK_THROWS(Automaton(2, {}, {}, wrong_rule), "INVALID_OPTION");
  CHECK_THROWS(Automaton(2, edge, {}, rules), "INVALID_OPTION");
  CHECK_THROWS(Automaton(2, {}, call, rules), "INVALID_OPTION");
  CHECK_THROWS(TokenTrie({1, 2}, {0, 3}), "INVALID_OPTION");
  CHECK_THROWS(TokenTrie({1, 2}, {0, 2, 1, 2}), "INVALID_OPTION");
}
