#include "engine/sampling.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include "engine/dtype.h"
#include "engine/error.h"
#include "engine/philox.h"

namespace billfish {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int32_t kLanes = 16;    // independent accumulators, so that the compiler may vectorize the reductions
constexpr int32_t kBlock = 1024;  // logits whose weights are summed in fp32 before the sum continues in fp64

void require_option(bool valid, const char* name, const char* range, double value) {
  if (valid) return;
  throw Error("INVALID_OPTION", std::string(name) + " must be " + range + ", not " + std::to_string(value));
}

void require_token(int32_t token, int32_t vocab, const char* where) {
  if (token >= 0 && token < vocab) return;
  throw Error("INVALID_OPTION", std::string(where) + " holds the token " + std::to_string(token) +
                                    ", but the vocabulary's tokens are 0 to " + std::to_string(vocab - 1));
}

// The highest of the model's logits; nullopt if one of them is NaN or infinite.
std::optional<float> highest_finite_logit(const float* logits, int32_t vocab) {
  std::array<float, kLanes> highest;
  highest.fill(-kInfinity);
  std::array<float, kLanes> invalid{};  // sums of terms that are 0 for a finite logit, else NaN
  const int32_t whole = vocab - vocab % kLanes;
  for (int32_t first = 0; first < whole; first += kLanes) {
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const float logit = logits[first + lane];
      highest[lane] = logit > highest[lane] ? logit : highest[lane];
      invalid[lane] += logit - logit;
    }
  }
  for (int32_t token = whole; token < vocab; ++token) {
    highest[0] = std::max(highest[0], logits[token]);
    invalid[0] += logits[token] - logits[token];
  }
  if (std::any_of(invalid.begin(), invalid.end(), [](float sum) { return sum != 0; })) return std::nullopt;
  return *std::max_element(highest.begin(), highest.end());
}

// The highest of the logits that the options have changed, which may be -infinity: tokens may be banned.
float highest_edited_logit(const float* logits, int32_t vocab) {
  std::array<float, kLanes> highest;
  highest.fill(-kInfinity);
  std::array<int32_t, kLanes> invalid{};
  const int32_t whole = vocab - vocab % kLanes;
  for (int32_t first = 0; first < whole; first += kLanes) {
    for (int32_t lane = 0; lane < kLanes; ++lane) {
      const float logit = logits[first + lane];
      highest[lane] = logit > highest[lane] ? logit : highest[lane];
      invalid[lane] |= !(logit < kInfinity);  // NaN or +infinity
    }
  }
  for (int32_t token = whole; token < vocab; ++token) {
    highest[0] = std::max(highest[0], logits[token]);
    invalid[0] |= !(logits[token] < kInfinity);
  }
  if (std::any_of(invalid.begin(), invalid.end(), [](int32_t is) { return is != 0; })) {
    const float* first = std::find_if(logits, logits + vocab, [](float logit) { return !(logit < kInfinity); });
    throw invalid_logit(static_cast<int32_t>(first - logits), *first);
  }
  return *std::max_element(highest.begin(), highest.end());
}

// exp(x) for kLowestExponent <= x <= 0, to within 2e-7 of its value. Straight-line code, for the vectorizer.
//   x = k ln 2 + r with |r| <= ln 2 / 2;  exp(x) = 2^k * (Taylor polynomial of r)
// Adding 1.5 * 2^23 rounds to an integer and leaves that integer in the lowest bits; 2^k has k + 127 in its exponent
// bits. For the lowest exponent k is -127, whose bits are those of 0, so everything below it is 0, too.
constexpr float kLowestExponent = -88.0f;

inline float exp_of(float x) {
  constexpr float kRound = 12582912.0f;
  const float shifted = x * 1.44269504f + kRound;
  const float k = shifted - kRound;
  const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;  // ln 2 in two parts
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return p * bits_to_float((float_to_bits(shifted) + 127u) << 23);
}

// Logits turned into weights: exp((logit - highest) / temperature), so that the highest logit has weight 1.
struct Softmax {
  float highest = 0;
  float inverse_temperature = 1;

  float exponent(float logit) const {
    const float exponent = (logit - highest) * inverse_temperature;
    return exponent > kLowestExponent ? exponent : kLowestExponent;
  }
  float weight(float logit) const { return exp_of(exponent(logit)); }

  // The weights of all logits, and their sums by blocks of kBlock; returns the sum of all.
  double weights(const float* logits, int32_t vocab, SamplingScratch& scratch) const {
    scratch.block_sums.clear();
    double total = 0;
    for (int32_t begin = 0; begin < vocab; begin += kBlock) {
      const double sum = block(logits + begin, std::min(kBlock, vocab - begin), scratch.weights + begin);
      scratch.block_sums.push_back(sum);
      total += sum;
    }
    return total;
  }

 private:
  double block(const float* logits, int32_t count, float* weights) const {
    // Two loops, because GCC makes a branch of the clamping when it sees what becomes of it.
    for (int32_t i = 0; i < count; ++i) weights[i] = exponent(logits[i]);
    for (int32_t i = 0; i < count; ++i) weights[i] = exp_of(weights[i]);
    std::array<float, kLanes> sums{};
    const int32_t whole = count - count % kLanes;
    for (int32_t first = 0; first < whole; first += kLanes) {
      for (int32_t lane = 0; lane < kLanes; ++lane) sums[lane] += weights[first + lane];
    }
    double sum = 0;
    for (const float lane : sums) sum += lane;
    for (int32_t i = whole; i < count; ++i) sum += weights[i];
    return sum;
  }
};

bool ranks_before(const Candidate& a, const Candidate& b) {
  return a.score != b.score ? a.score > b.score : a.token < b.token;
}

// The `count` highest logits above -infinity, in no order. One pass: candidates accumulate until there are twice as
// many as wanted; then the worse half is dropped, and the worst survivor is the bar for all later ones.
void select_highest(const float* logits, int32_t vocab, int32_t count, BoundedList<Candidate>& candidates) {
  const size_t wanted = static_cast<size_t>(count);
  const size_t capacity = std::max<size_t>(2 * wanted, 512);
  candidates.clear();
  if (wanted == 0) return;
  const auto keep_best = [&] {
    std::nth_element(candidates.begin(), candidates.begin() + (count - 1), candidates.end(), ranks_before);
    candidates.shrink_to(wanted);
  };
  float bar = -kInfinity;
  for (int32_t token = 0; token < vocab; ++token) {
    if (!(logits[token] > bar)) continue;  // equal to the bar: lower ids are already in
    candidates.push_back({logits[token], token});
    if (candidates.size() == capacity) {
      keep_best();
      bar = candidates.back().score;
    }
  }
  if (candidates.size() > wanted) keep_best();
}

// Sorts the candidates, the highest logit first, as far as it takes for their weights to reach `wanted`; drops the
// rest. The scores become weights.
void keep_nucleus(const Softmax& softmax, double wanted, BoundedList<Candidate>& candidates) {
  const size_t count = candidates.size();
  double reached = 0;
  size_t sorted = 0;
  for (size_t step = 64; sorted < count; step *= 4) {
    const auto begin = candidates.begin() + static_cast<std::ptrdiff_t>(sorted);
    const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(std::min(count, sorted + step));
    if (end != candidates.end()) std::nth_element(begin, end, candidates.end(), ranks_before);
    std::sort(begin, end, ranks_before);
    for (auto candidate = begin; candidate != end; ++candidate) {
      candidate->score = softmax.weight(candidate->score);
      reached += candidate->score;
      ++sorted;
      if (reached >= wanted) {
        candidates.shrink_to(sorted);
        return;
      }
    }
  }
}

// Drops candidates (sorted, scores are weights) of less than `least`, but never the first; returns the sum of those
// that stay.
double keep_at_least(float least, BoundedList<Candidate>& candidates) {
  double sum = 0;
  size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || candidates[kept].score >= least)) sum += candidates[kept++].score;
  candidates.shrink_to(kept);
  return sum;
}

int32_t draw(const BoundedList<Candidate>& candidates, double target) {
  double reached = 0;
  int32_t last = candidates.front().token;
  for (const Candidate& candidate : candidates) {
    if (candidate.score <= 0) continue;
    reached += candidate.score;
    last = candidate.token;
    if (reached > target) break;
  }
  return last;
}

int32_t draw(const SamplingScratch& scratch, size_t vocab, double target) {
  size_t block = 0;
  while (block + 1 < scratch.block_sums.size() && scratch.block_sums[block] <= target) {
    target -= scratch.block_sums[block++];
  }
  // Rounding may put the target just past the last weight of an otherwise empty block: then go back to the last weight.
  const size_t begin = block * kBlock, end = std::min(begin + kBlock, vocab);
  double reached = 0;
  size_t last = vocab;
  for (size_t token = begin; token < end && reached <= target; ++token) {
    if (scratch.weights[token] <= 0) continue;
    reached += scratch.weights[token];
    last = token;
  }
  if (last == vocab) {
    last = begin;
    while (scratch.weights[--last] <= 0) {
    }
  }
  return static_cast<int32_t>(last);
}

int32_t choose(const float* logits, int32_t vocab, float highest, const SamplingParameters& p,
               SamplingScratch& scratch) {
  if (p.temperature == 0) return static_cast<int32_t>(std::find(logits, logits + vocab, highest) - logits);
  const Softmax softmax{highest, std::min(1.0f / p.temperature, std::numeric_limits<float>::max())};
  const double random = uniform_random(p.seed, p.step);
  BoundedList<Candidate>& candidates = scratch.candidates;

  double total = 0;
  if (p.top_k > 0 && p.top_k < vocab) {
    select_highest(logits, vocab, p.top_k, candidates);
    if (p.top_p < 1) {  // which sums in order, so that every device finds the same sum
      std::sort(candidates.begin(), candidates.end(), ranks_before);
      for (const Candidate& candidate : candidates) total += softmax.weight(candidate.score);
    }
  } else {
    total = softmax.weights(logits, vocab, scratch);
    if (p.top_p >= 1 && p.min_p <= 0) return draw(scratch, static_cast<size_t>(vocab), random * total);
    // Tokens of less than this can be left out: all of them together have less than 1 - p of the total, so the others
    // reach p before one of these would be taken. (0.99: well clear of rounding.)
    const double negligible = 0.99 * (1.0 - p.top_p) / vocab * total;
    const float least = std::max(static_cast<float>(negligible), p.top_p >= 1 ? p.min_p : 0.0f);
    candidates.clear();
    for (int32_t token = 0; token < vocab; ++token) {
      const float weight = scratch.weights[token];
      if (weight >= least && weight > 0) candidates.push_back({logits[token], token});
    }
  }
  keep_nucleus(softmax, p.top_p < 1 ? p.top_p * total : kInfinity, candidates);
  return draw(candidates, random * keep_at_least(p.min_p, candidates));
}

// Changes single logits and puts them back at the end of its life.
class LogitEdits {
 public:
  LogitEdits(float* logits, std::vector<TokenBias>& overwritten) : logits_(logits), overwritten_(overwritten) {
    overwritten_.clear();
  }
  ~LogitEdits() {
    for (auto edit = overwritten_.rbegin(); edit != overwritten_.rend(); ++edit) logits_[edit->token] = edit->bias;
  }
  LogitEdits(const LogitEdits&) = delete;
  LogitEdits& operator=(const LogitEdits&) = delete;

  void set(int32_t token, float logit) {
    overwritten_.push_back({token, logits_[token]});
    logits_[token] = logit;
  }
  bool any() const { return !overwritten_.empty(); }

 private:
  float* logits_;
  std::vector<TokenBias>& overwritten_;
};

void apply_penalties(const float* logits, const SamplingParameters& p, int32_t* counts, LogitEdits& edits) {
  const bool repetition = p.repetition_penalty != 1;
  if (!repetition && p.frequency_penalty == 0 && p.presence_penalty == 0) return;
  constexpr int32_t kDone = -1;
  const auto repeated = [&](float logit) {
    if (!repetition) return logit;
    return logit > 0 ? logit / p.repetition_penalty : logit * p.repetition_penalty;
  };
  for (const int32_t token : p.generated) ++counts[token];
  for (const int32_t token : p.generated) {
    const int32_t count = counts[token];
    if (count == kDone) continue;
    counts[token] = kDone;
    const float count_penalty = p.frequency_penalty * static_cast<float>(count) + p.presence_penalty;
    edits.set(token, repeated(logits[token]) - count_penalty);
  }
  for (const int32_t token : p.prompt) {
    if (!repetition || counts[token] == kDone) continue;
    counts[token] = kDone;
    edits.set(token, repeated(logits[token]));
  }
  for (const int32_t token : p.generated) counts[token] = 0;
  for (const int32_t token : p.prompt) counts[token] = 0;
}

// The biases of one token add up first.
void apply_bias(const float* logits, std::span<const TokenBias> bias, const SamplingScratch& scratch,
                LogitEdits& edits) {
  float* const sums = scratch.weights;  // which are not needed yet
  for (const TokenBias& entry : bias) sums[entry.token] = 0;
  for (const TokenBias& entry : bias) sums[entry.token] += entry.bias;
  for (const TokenBias& entry : bias) {
    if (scratch.counts[entry.token]++ == 0) edits.set(entry.token, logits[entry.token] + sums[entry.token]);
  }
  for (const TokenBias& entry : bias) scratch.counts[entry.token] = 0;
}

void apply_allowed(std::span<const uint32_t> allowed, int32_t vocab, LogitEdits& edits) {
  if (allowed.empty()) return;
  for (int32_t token = 0; token < vocab; ++token) {
    const uint32_t word = allowed[static_cast<size_t>(token) / 32];
    if ((word >> (token % 32) & 1) == 0) edits.set(token, -kInfinity);
  }
}

}  // namespace

//   block_sums [blocks of kBlock] doubles   candidates [vocab]   weights [vocab] floats   counts [vocab] int32
static size_t blocks_of(int32_t vocab) { return (static_cast<size_t>(vocab) + kBlock - 1) / kBlock; }

size_t SamplingScratch::bytes(int32_t vocab) {
  return blocks_of(vocab) * sizeof(double) +
         static_cast<size_t>(vocab) * (sizeof(Candidate) + sizeof(float) + sizeof(int32_t));
}

SamplingScratch::SamplingScratch(void* memory, int32_t vocab) {
  auto* const sums = static_cast<double*>(memory);
  auto* const chosen = reinterpret_cast<Candidate*>(sums + blocks_of(vocab));
  block_sums = BoundedList<double>(sums);
  candidates = BoundedList<Candidate>(chosen);
  weights = reinterpret_cast<float*>(chosen + vocab);
  counts = reinterpret_cast<int32_t*>(weights + vocab);
}

void check_sampling(const SamplingParameters& p, int32_t vocab) {
  const auto finite_from = [](float value, float low) { return std::isfinite(value) && value >= low; };
  require_option(finite_from(p.temperature, 0), "temperature", "a finite number >= 0", p.temperature);
  require_option(p.top_k >= 0, "topK", ">= 0", p.top_k);
  require_option(p.top_p > 0 && p.top_p <= 1, "topP", "> 0 and <= 1", p.top_p);
  require_option(p.min_p >= 0 && p.min_p <= 1, "minP", ">= 0 and <= 1", p.min_p);
  require_option(std::isfinite(p.repetition_penalty) && p.repetition_penalty > 0, "repetitionPenalty",
                 "a finite number > 0", p.repetition_penalty);
  require_option(std::isfinite(p.presence_penalty), "presencePenalty", "finite", p.presence_penalty);
  require_option(std::isfinite(p.frequency_penalty), "frequencyPenalty", "finite", p.frequency_penalty);
  require_option(p.logprobs >= -1, "logprobs", ">= 0", p.logprobs);
  for (const int32_t token : p.prompt) require_token(token, vocab, "the prompt");
  for (const int32_t token : p.generated) require_token(token, vocab, "the generated text");
  for (const int32_t token : p.banned) require_token(token, vocab, "the list of banned tokens");
  if (!p.allowed.empty() && p.allowed.size() != allowed_words(vocab)) {
    throw Error("INVALID_OPTION", "The allowed tokens are " + std::to_string(p.allowed.size()) +
                                      " words, but the vocabulary has " + std::to_string(vocab) + " tokens.");
  }
  for (const TokenBias& entry : p.bias) {
    require_token(entry.token, vocab, "logitBias");
    require_option(std::isfinite(entry.bias), "logitBias", "finite", entry.bias);
  }
}

Error invalid_logit(int32_t token, float logit) {
  return Error("INVALID_OPTION", "Penalties and biases make the logit of token " + std::to_string(token) + " " +
                                     (std::isnan(logit) ? "NaN" : "infinite") + ". Use numbers closer to 0 for " +
                                     "logitBias and the penalties, and a repetitionPenalty closer to 1.");
}

Error nothing_to_choose(int32_t vocab, size_t banned) {
  return Error("INVALID_OPTION",
               "None of the " + std::to_string(vocab) + " tokens may be chosen: " + std::to_string(banned) +
                   " are banned, and the others' logits are -infinity. " +
                   "suppress_tokens, bad_words_ids and no_repeat_ngram_size of generation_config.json " +
                   "ban tokens; shorten them.");
}

Sampled sample(float* logits, int32_t vocab, const SamplingParameters& p, SamplingScratch& scratch) {
  if (vocab <= 0) throw Error("INTERNAL", "cannot sample from " + std::to_string(vocab) + " logits");
  check_sampling(p, vocab);
  Sampled sampled;
  const std::optional<float> unedited = highest_finite_logit(logits, vocab);
  if (!unedited) {
    sampled.token = Sampled::non_finite;
    return sampled;
  }
  float highest = *unedited;

  double log_sum = 0;  // of the exponentials of the unmodified logits
  if (p.logprobs >= 0) {
    log_sum = highest + std::log(Softmax{highest, 1}.weights(logits, vocab, scratch));
    select_highest(logits, vocab, std::min(p.logprobs, vocab), scratch.candidates);
    std::sort(scratch.candidates.begin(), scratch.candidates.end(), ranks_before);
    for (const Candidate& candidate : scratch.candidates) {
      sampled.alternatives.push_back({candidate.token, static_cast<float>(candidate.score - log_sum)});
    }
  }
  {
    LogitEdits edits(logits, scratch.overwritten);
    apply_penalties(logits, p, scratch.counts, edits);
    apply_bias(logits, p.bias, scratch, edits);
    for (const int32_t token : p.banned) edits.set(token, -kInfinity);
    apply_allowed(p.allowed, vocab, edits);
    if (edits.any()) highest = highest_edited_logit(logits, vocab);
    if (highest == -kInfinity) {
      if (p.allowed.empty()) throw nothing_to_choose(vocab, p.banned.size());
      sampled.token = Sampled::none_allowed;
      return sampled;
    }
    sampled.token = choose(logits, vocab, highest, p, scratch);
  }
  if (p.logprobs >= 0) sampled.logprob = static_cast<float>(logits[sampled.token] - log_sum);
  return sampled;
}

}  // namespace billfish
