#include "engine/sampling.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <numeric>
#include <random>
#include <utility>

#include "engine/error.h"
#include "engine/philox.h"
#include "support/check.h"

using billfish::sample;
using billfish::Sampled;
using billfish::SamplingParameters;
using billfish::SamplingScratch;
using billfish::TokenBias;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A scratch with its memory.
struct OwnScratch {
  explicit OwnScratch(size_t vocab)
      : memory(SamplingScratch::bytes(static_cast<int32_t>(vocab)) / sizeof(double)),
        scratch(memory.data(), static_cast<int32_t>(vocab)) {}
  std::vector<double> memory;
  SamplingScratch scratch;
};

std::vector<float> random_logits(int vocab, uint32_t seed, float spread = 2) {
  std::mt19937 generator(seed);
  std::vector<float> logits(static_cast<size_t>(vocab));
  for (float& logit : logits) {
    logit = spread * (static_cast<float>(generator() % 20001) / 10000.0f - 1.0f) +
            spread * (static_cast<float>(generator() % 20001) / 10000.0f - 1.0f);
  }
  return logits;
}

// The probabilities that the options leave, by full sorts in double precision.
std::vector<double> reference(const std::vector<float>& original, const SamplingParameters& p) {
  const int vocab = static_cast<int>(original.size());
  std::vector<double> logits(original.begin(), original.end());
  std::map<int, int> counts;
  for (const int token : p.generated) ++counts[token];
  std::map<int, int> seen = counts;
  for (const int token : p.prompt) ++seen[token];
  for (const auto& [token, count] : seen) {
    double& logit = logits[static_cast<size_t>(token)];
    logit = logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
  }
  for (const auto& [token, count] : counts) {
    logits[static_cast<size_t>(token)] -= p.frequency_penalty * count + p.presence_penalty;
  }
  for (const TokenBias& entry : p.bias) logits[static_cast<size_t>(entry.token)] += entry.bias;
  for (const int token : p.banned) logits[static_cast<size_t>(token)] = -kInfinity;
  for (int token = 0; token < vocab && !p.allowed.empty(); ++token) {
    if ((p.allowed[static_cast<size_t>(token) / 32] >> (token % 32) & 1) == 0) {
      logits[static_cast<size_t>(token)] = -kInfinity;
    }
  }

  std::vector<int> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
  if (p.temperature == 0) order.resize(1);
  if (p.top_k > 0 && p.top_k < vocab) order.resize(static_cast<size_t>(p.top_k));
  const double temperature = p.temperature == 0 ? 1 : p.temperature;
  const double highest = logits[static_cast<size_t>(order[0])];
  std::vector<double> weights;
  weights.reserve(order.size());
  for (const int token : order)
    weights.push_back(std::exp((logits[static_cast<size_t>(token)] - highest) / temperature));
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (p.top_p < 1) {
    double reached = 0;
    size_t kept = 0;
    while (kept < weights.size() && reached < p.top_p * total) reached += weights[kept++];
    weights.resize(kept);
  }
  while (weights.back() < p.min_p) weights.pop_back();
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> probabilities(static_cast<size_t>(vocab), 0.0);
  for (size_t i = 0; i < weights.size(); ++i) probabilities[static_cast<size_t>(order[i])] = weights[i] / sum;
  return probabilities;
}

// Draws `draws` tokens and compares their frequencies with the reference's by chi-square; tokens that are expected less
// than five times are counted together.
void check_distribution(const char* name, const std::vector<float>& logits, SamplingParameters p, int draws = 20000) {
  const std::vector<double> expected = reference(logits, p);
  std::vector<float> row = logits;
  std::vector<int> observed(logits.size(), 0);
  OwnScratch own(logits.size());
  for (int step = 0; step < draws; ++step) {
    p.step = static_cast<uint64_t>(step);
    const int token = sample(row.data(), static_cast<int>(row.size()), p, own.scratch).token;
    ++observed[static_cast<size_t>(token)];
    CHECK_MESSAGE(expected[static_cast<size_t>(token)] > 0, name << ": token " << token << " must not be drawn");
  }
  CHECK_MESSAGE(row == logits, name << ": the logits must be left as they were");
  double chi_square = 0, rare_expected = 0, rare_observed = 0;
  int cells = 0;
  const auto add = [&](double seen, double wanted) {
    chi_square += (seen - wanted) * (seen - wanted) / wanted;
    ++cells;
  };
  for (size_t token = 0; token < logits.size(); ++token) {
    if (expected[token] * draws >= 5) {
      add(observed[token], expected[token] * draws);
    } else {
      rare_expected += expected[token] * draws;
      rare_observed += observed[token];
    }
  }
  if (rare_expected >= 5) add(rare_observed, rare_expected);
  // Mean and standard deviation of chi-square are d and sqrt(2 d); 4.5 of them is beyond one in ten thousand.
  const double freedom = std::max(cells - 1, 1);
  CHECK_MESSAGE(chi_square < freedom + 4.5 * std::sqrt(2 * freedom),
                name << ": chi-square " << chi_square << " with " << freedom << " degrees of freedom");
}

Sampled sample_once(std::vector<float> logits, const SamplingParameters& p) {
  OwnScratch own(logits.size());
  return sample(logits.data(), static_cast<int>(logits.size()), p, own.scratch);
}

SamplingParameters at_temperature(float temperature, uint64_t seed = 1) {
  SamplingParameters p;
  p.temperature = temperature;
  p.seed = seed;
  return p;
}

}  // namespace

TEST(philox_gives_the_published_values) {
  using billfish::philox4x32;
  using billfish::PhiloxCounter;
  CHECK((philox4x32({0, 0, 0, 0}, {0, 0}) == PhiloxCounter{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  CHECK(
      (philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}) == PhiloxCounter{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  CHECK((philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
         PhiloxCounter{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(uniform_random_is_uniform_over_steps_and_over_seeds) {
  for (const bool over_steps : {true, false}) {
    std::vector<int> bins(64, 0);
    for (uint64_t i = 0; i < 64000; ++i) {
      const double random = over_steps ? billfish::uniform_random(7, i) : billfish::uniform_random(i, 7);
      CHECK(random >= 0);
      CHECK(random < 1);
      ++bins[static_cast<size_t>(random * 64)];
    }
    double chi_square = 0;
    for (const int bin : bins) chi_square += (bin - 1000.0) * (bin - 1000.0) / 1000.0;
    CHECK_MESSAGE(chi_square < 63 + 4.5 * std::sqrt(126.0), "chi-square " << chi_square);
  }
}

TEST(greedy_takes_the_highest_logit_and_the_lowest_id_of_equals) {
  CHECK(sample_once({1, 3, 2}, {}).token == 1);
  CHECK(sample_once({1, 3, 2, 3}, {}).token == 1);
  CHECK(sample_once({-5}, {}).token == 0);
  CHECK(sample_once({0.0f, -0.0f, 0.0f}, {}).token == 0);
  std::vector<float> row(1000, -1.0f);
  for (const int winner : {999, 998, 500, 17, 0}) {
    row[static_cast<size_t>(winner)] = 4;
    CHECK(sample_once(row, {}).token == winner);
  }
}

TEST(sampling_follows_the_probabilities_of_every_option) {
  const std::vector<float> logits = random_logits(300, 5);
  SamplingParameters p = at_temperature(1);
  check_distribution("temperature 1", logits, p);
  p = at_temperature(0.6f, 2);
  check_distribution("temperature 0.6", logits, p);
  p = at_temperature(3, 3);
  check_distribution("temperature 3", logits, p);
  for (const int top_k : {1, 2, 17, 64, 65, 299, 300, 5000}) {
    p = at_temperature(1, static_cast<uint64_t>(top_k));
    p.top_k = top_k;
    check_distribution("top-k", logits, p, 8000);
  }
  for (const float top_p : {1e-6f, 0.1f, 0.5f, 0.9f, 0.999f}) {
    p = at_temperature(1, 11);
    p.top_p = top_p;
    check_distribution("top-p", logits, p, 8000);
    p.top_k = 40;
    check_distribution("top-k and top-p", logits, p, 8000);
  }
  for (const float min_p : {0.01f, 0.2f, 1.0f}) {
    p = at_temperature(0.9f, 12);
    p.min_p = min_p;
    check_distribution("min-p", logits, p, 8000);
    p.top_p = 0.8f;
    check_distribution("top-p and min-p", logits, p, 8000);
    p.top_k = 30;
    check_distribution("top-k, top-p and min-p", logits, p, 8000);
  }
}

TEST(sampling_follows_the_probabilities_over_many_blocks) {
  std::vector<float> logits = random_logits(5000, 6, 3);
  check_distribution("5000 tokens", logits, at_temperature(0.8f));
  // All weight in the first and the last block, nothing between.
  std::fill(logits.begin(), logits.end(), -3e38f);
  logits[3] = 1;
  logits[4999] = 1;
  check_distribution("two of 5000 tokens", logits, at_temperature(1), 4000);
}

TEST(penalties_bias_and_bans_change_the_probabilities_as_defined) {
  const std::vector<float> logits = random_logits(40, 8);
  const std::vector<int32_t> prompt = {1, 2, 3, 3, 3}, generated = {3, 4, 4, 4, 5}, banned = {6, 7};
  const std::vector<TokenBias> bias = {{8, 2.5f}, {9, -100}, {4, 0.5f}};
  SamplingParameters p = at_temperature(1, 21);
  p.prompt = prompt;
  p.generated = generated;
  p.repetition_penalty = 1.5f;
  check_distribution("repetition penalty", logits, p);
  p.repetition_penalty = 0.7f;
  check_distribution("repetition penalty below 1", logits, p);
  p.repetition_penalty = 1;
  p.presence_penalty = 1.5f;
  check_distribution("presence penalty", logits, p);
  p.presence_penalty = 0;
  p.frequency_penalty = -0.7f;
  check_distribution("frequency penalty", logits, p);
  p.repetition_penalty = 1.2f;
  p.presence_penalty = 0.3f;
  p.bias = bias;
  p.banned = banned;
  check_distribution("all of them", logits, p);
  p.top_k = 12;
  p.top_p = 0.9f;
  p.min_p = 0.02f;
  p.temperature = 0.7f;
  check_distribution("all options", logits, p);
}

TEST(tokens_that_are_not_allowed_have_no_probability) {
  const std::vector<float> logits = random_logits(40, 9);
  const std::vector<uint32_t> allowed = {0x10f0f012, 0x81};
  const std::vector<TokenBias> bias = {{0, 100}, {4, 0.5f}};
  SamplingParameters p = at_temperature(1, 22);
  p.allowed = allowed;
  check_distribution("some tokens", logits, p);
  p.bias = bias;  // token 0 is not allowed, whatever its bias
  check_distribution("some tokens, with a bias", logits, p);
  p.top_k = 9;
  p.top_p = 0.9f;
  p.min_p = 0.02f;
  check_distribution("some tokens, all options", logits, p);
  p = {};
  p.allowed = allowed;
  std::vector<float> rising(40);
  std::iota(rising.begin(), rising.end(), 0.0f);
  CHECK(sample_once(rising, p).token == 39);
  const std::vector<uint32_t> one = {1u << 7, 0};
  p.allowed = one;
  p.logprobs = 2;
  const Sampled sampled = sample_once(rising, p);
  CHECK(sampled.token == 7);
  CHECK(sampled.alternatives[0].token == 39);  // of the unmodified distribution
  CHECK(std::abs(sampled.logprob - (sampled.alternatives[0].logprob - 32)) < 1e-4f);
}

TEST(a_row_without_an_allowed_token_gets_none) {
  const std::vector<uint32_t> none = {0}, one = {4};
  const std::vector<int32_t> banned = {2};
  for (SamplingParameters p : {SamplingParameters(), at_temperature(1)}) {
    p.allowed = none;
    CHECK(sample_once({1, 2, 3}, p).token == Sampled::none_allowed);
    p.allowed = one;
    CHECK(sample_once({1, 2, 3}, p).token == 2);
    p.banned = banned;
    CHECK(sample_once({1, 2, 3}, p).token == Sampled::none_allowed);
  }
  SamplingParameters p;
  p.allowed = one;
  CHECK_THROWS(sample_once(std::vector<float>(33), p), "INVALID_OPTION");
}

TEST(greedy_applies_penalties_bias_and_bans) {
  const std::vector<int32_t> seen = {1};
  SamplingParameters p;
  p.prompt = seen;
  p.repetition_penalty = 2;
  CHECK(sample_once({1.8f, 3}, p).token == 0);
  CHECK(sample_once({-1.8f, -1}, p).token == 0);
  p = {};
  p.generated = seen;
  p.presence_penalty = 1;
  CHECK(sample_once({2.5f, 3}, p).token == 0);
  p = {};
  p.prompt = seen;
  p.presence_penalty = 1;
  CHECK(sample_once({2.5f, 3}, p).token == 1);
  p = {};
  const std::vector<TokenBias> bias = {{0, 0.6f}};
  p.bias = bias;
  CHECK(sample_once({2.5f, 3}, p).token == 0);
  p = {};
  p.banned = seen;
  CHECK(sample_once({2.5f, 3}, p).token == 0);
}

TEST(equal_logits_at_the_edge_of_top_k_and_top_p_keep_the_lowest_ids) {
  const std::vector<float> logits(2000, 1.0f);
  for (const bool by_k : {true, false}) {
    SamplingParameters p = at_temperature(1);
    if (by_k) p.top_k = 5;
    if (!by_k) p.top_p = 0.0025f;
    std::vector<int> seen(2000, 0);
    for (uint64_t step = 0; step < 300; ++step) {
      p.step = step;
      ++seen[static_cast<size_t>(sample_once(logits, p).token)];
    }
    for (size_t token = 0; token < 2000; ++token) CHECK((seen[token] > 0) == (token < 5));
  }
}

TEST(alternatives_are_the_highest_logits_in_order) {
  for (uint32_t seed = 0; seed < 20; ++seed) {
    const std::vector<float> logits = random_logits(4000, seed);
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    for (const int count : {1, 5, 300, 1500, 3999, 4000, 9000}) {
      SamplingParameters p;
      p.logprobs = count;
      const Sampled sampled = sample_once(logits, p);
      CHECK(sampled.alternatives.size() == static_cast<size_t>(std::min(count, 4000)));
      for (size_t i = 0; i < sampled.alternatives.size(); ++i) CHECK(sampled.alternatives[i].token == order[i]);
    }
  }
}

TEST(min_p_of_one_keeps_all_that_are_highest) {
  SamplingParameters p = at_temperature(1);
  p.min_p = 1;
  check_distribution("min-p 1", {2, 1, 2, 1.999f, 2}, p, 3000);
}

TEST(logprobs_are_exact_to_fp32) {
  SamplingParameters p;
  p.logprobs = 0;
  for (float distance = 0; distance < 100; distance += 0.0437f) {
    const double expected = -std::log1p(std::exp(-static_cast<double>(distance)));
    const double logprob = sample_once({distance, 0}, p).logprob;
    CHECK_MESSAGE(std::abs(logprob - expected) < 4e-7, distance << ": " << logprob << ", not " << expected);
  }
}

TEST(a_sample_depends_on_seed_and_step_alone) {
  const std::vector<float> logits = random_logits(500, 9);
  const auto draw = [&](uint64_t seed, int count, bool own_scratch) {
    std::vector<int> tokens;
    OwnScratch own(500);
    std::vector<float> row = logits;
    for (int step = 0; step < count; ++step) {
      SamplingParameters p = at_temperature(1, seed);
      p.step = static_cast<uint64_t>(step);
      tokens.push_back(own_scratch ? sample_once(logits, p).token : sample(row.data(), 500, p, own.scratch).token);
    }
    return tokens;
  };
  CHECK(draw(3, 50, true) == draw(3, 50, false));
  CHECK(draw(3, 50, true) != draw(4, 50, true));
  // Both halves of the seed and of the step count.
  CHECK(billfish::uniform_random(1, 0) != billfish::uniform_random(1 + (uint64_t{1} << 32), 0));
  CHECK(billfish::uniform_random(0, 1) != billfish::uniform_random(0, 1 + (uint64_t{1} << 32)));
}

TEST(extreme_temperatures_stay_within_numbers) {
  const std::vector<float> logits = {4, 1, 3, 2.999f, -3e38f};
  const std::vector<int32_t> banned = {0};
  for (const float temperature : {1e-45f, 1e-30f, 1e-6f}) {
    for (uint64_t step = 0; step < 20; ++step) {
      SamplingParameters p = at_temperature(temperature);
      p.step = step;
      p.banned = banned;
      CHECK(sample_once(logits, p).token == 2);
      p.top_k = 3;
      CHECK(sample_once(logits, p).token == 2);
      p.top_p = 0.99f;
      CHECK(sample_once(logits, p).token == 2);
    }
  }
  std::vector<int> seen(5, 0);
  for (uint64_t step = 0; step < 200; ++step) {
    SamplingParameters p = at_temperature(3e38f);
    p.step = step;
    p.banned = banned;
    ++seen[static_cast<size_t>(sample_once(logits, p).token)];
  }
  CHECK(seen[0] == 0);
  for (size_t token = 1; token < 5; ++token) CHECK(seen[token] > 0);
}

TEST(logprobs_are_those_of_the_unmodified_logits) {
  const std::vector<float> logits = random_logits(3000, 10, 4);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const std::vector<int32_t> banned = {5};
  for (const float temperature : {0.0f, 0.5f}) {
    SamplingParameters p = at_temperature(temperature);
    p.banned = banned;
    p.top_k = 50;
    p.logprobs = 8;
    const Sampled sampled = sample_once(logits, p);
    const auto expected = [&](int token) { return logits[static_cast<size_t>(token)] - std::log(sum); };
    CHECK(std::abs(sampled.logprob - expected(sampled.token)) < 1e-5);
    CHECK(sampled.alternatives.size() == 8);
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int a, int b) { return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)]; });
    for (size_t i = 0; i < sampled.alternatives.size(); ++i) {
      CHECK(sampled.alternatives[i].token == order[i]);
      CHECK(std::abs(sampled.alternatives[i].logprob - expected(order[i])) < 1e-5);
    }
  }
  SamplingParameters p;
  CHECK(std::isnan(sample_once(logits, p).logprob));
  p.logprobs = 0;
  CHECK(sample_once(logits, p).alternatives.empty());
  CHECK(std::isfinite(sample_once(logits, p).logprob));
  p.logprobs = 5;
  CHECK(sample_once({1, 2}, p).alternatives.size() == 2);
}

TEST(logits_that_are_no_numbers_give_no_token) {
  std::vector<float> logits(100, 1.0f);
  OwnScratch own(100);
  const auto message = [&](const SamplingParameters& p) {
    try {
      sample(logits.data(), 100, p, own.scratch);
    } catch (const billfish::Error& error) {
      return error.code() + " " + error.what();
    }
    return std::string("nothing");
  };
  for (const float wrong : {std::nanf(""), kInfinity, -kInfinity}) {
    for (const size_t token : {size_t{31}, size_t{97}}) {
      const float before = std::exchange(logits[token], wrong);
      for (SamplingParameters p : {SamplingParameters(), at_temperature(1)}) {
        CHECK(sample(logits.data(), 100, p, own.scratch).token == Sampled::non_finite);
        p.logprobs = 3;
        CHECK(sample(logits.data(), 100, p, own.scratch).token == Sampled::non_finite);
      }
      logits[token] = before;
    }
  }
  logits[97] = 3e38f;
  const std::vector<int32_t> generated = {97};
  SamplingParameters p;
  p.repetition_penalty = 0.5f;
  p.generated = generated;
  CHECK(message(p).find("INVALID_OPTION Penalties and biases make the logit of token 97 infinite") == 0);
  CHECK(logits[97] == 3e38f);
  std::vector<int32_t> banned(100);
  std::iota(banned.begin(), banned.end(), 0);
  p = {};
  p.banned = banned;
  CHECK(message(p).find("INVALID_OPTION None of the 100 tokens may be chosen: 100 are banned") == 0);
  CHECK(logits[4] == 1);
}

TEST(options_out_of_range_are_refused) {
  const auto refused = [](const std::function<void(SamplingParameters&)>& change) {
    SamplingParameters p = at_temperature(1);
    change(p);
    CHECK_THROWS(sample_once({1, 2, 3}, p), "INVALID_OPTION");
  };
  refused([](SamplingParameters& p) { p.temperature = -1; });
  refused([](SamplingParameters& p) { p.temperature = std::nanf(""); });
  refused([](SamplingParameters& p) { p.top_k = -1; });
  refused([](SamplingParameters& p) { p.top_p = 0; });
  refused([](SamplingParameters& p) { p.top_p = 1.5f; });
  refused([](SamplingParameters& p) { p.min_p = -0.1f; });
  refused([](SamplingParameters& p) { p.repetition_penalty = 0; });
  refused([](SamplingParameters& p) { p.presence_penalty = kInfinity; });
  refused([](SamplingParameters& p) { p.logprobs = -2; });
  const std::vector<int32_t> outside = {3}, negative = {-1};
  refused([&](SamplingParameters& p) { p.prompt = outside; });
  refused([&](SamplingParameters& p) { p.generated = negative; });
  refused([&](SamplingParameters& p) { p.banned = outside; });
  const std::vector<TokenBias> bias = {{3, 1}}, infinite = {{0, kInfinity}};
  refused([&](SamplingParameters& p) { p.bias = bias; });
  refused([&](SamplingParameters& p) { p.bias = infinite; });
}
