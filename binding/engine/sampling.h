// Sampling: from a row of logits to a token, over fp32 logits on the host, on the stage's thread. GPUs sample by
// themselves (cuda/layer/sampling.h) and choose the same tokens: the rounding and order of every sum are part of this
// definition.
//
// The options apply in this order, each to the result of the previous one:
//
//   repetition penalty (tokens of prompt and generated)      logit > 0 ? logit / r : logit * r
//   frequency and presence penalty (generated only)          logit - (f * count + p)
//   bias, then banned and not allowed tokens                 logit + sum of its biases;  -infinity
//   temperature                                              logit / t;  0: the highest logit wins, nothing below acts
//   top-k                                                    the k highest logits
//   top-p                                                    the fewest tokens whose probabilities reach p
//   min-p                                                    probability >= m * the highest one
//
// Among equal logits the token with the lowest id comes first, everywhere. A sample depends only on the logits, the
// options, the seed and the step: the random number is Philox4x32-10 of (seed, step), so there is no state to carry.
#pragma once
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "engine/error.h"

namespace billfish {

// A list over memory that somebody else allocated, with a fixed capacity.
template <class T>
class BoundedList {
 public:
  BoundedList() = default;
  // `memory` has room for the list's largest size.
  explicit BoundedList(T* memory) : data_(memory) {}

  size_t size() const { return size_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T& front() { return data_[0]; }
  const T& front() const { return data_[0]; }
  T& back() { return data_[size_ - 1]; }

  void clear() { size_ = 0; }
  void push_back(const T& value) { data_[size_++] = value; }
  void pop_back() { --size_; }
  void shrink_to(size_t size) { size_ = size; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

struct TokenBias {
  int32_t token = 0;
  float bias = 0;
};

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
};

struct SamplingParameters {
  float temperature = 0;         // >= 0; 0: greedy
  int32_t top_k = 0;             // 0: off
  float top_p = 1;               // (0, 1]; 1: off
  float min_p = 0;               // [0, 1]; 0: off
  float repetition_penalty = 1;  // > 0; 1: off
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint64_t seed = 0;
  uint64_t step = 0;                // which token of the sequence this is
  int32_t logprobs = -1;            // alternatives to report besides the token itself; -1: no log-probabilities at all
  std::span<const int32_t> prompt;  // needed for the repetition penalty alone
  std::span<const int32_t> generated;  // needed for the three penalties
  std::span<const TokenBias> bias;
  std::span<const int32_t> banned;  // tokens that must not be chosen (end of sequence before the minimum length)
  // Words of allowed_words(vocab): bit t % 32 of word t / 32 says whether token t may be chosen. Empty: all may.
  std::span<const uint32_t> allowed;
};

constexpr size_t allowed_words(int32_t vocab) { return (static_cast<size_t>(vocab) + 31) / 32; }

// Decides which tokens may come next, once the step that samples from them is computed: see SamplingRequest.
class TokenConstraint {
 public:
  virtual ~TokenConstraint() = default;
  // For SamplingParameters::allowed; valid until the next call. Called on a stage's thread. Does not throw: where it
  // cannot tell, no token is allowed.
  virtual std::span<const uint32_t> allowed() = 0;
};

struct Sampled {
  static constexpr int32_t non_finite = -1;
  static constexpr int32_t none_allowed = -2;
  // non_finite: a logit is NaN or infinite, and nothing was drawn; none_allowed: SamplingParameters::allowed leaves no
  // token, which concerns this row alone.
  int32_t token = 0;
  // Natural logarithm of the token's probability under the unmodified logits (before penalties, bias and temperature);
  // NaN if not asked for.
  float logprob = std::numeric_limits<float>::quiet_NaN();
  std::vector<TokenLogprob> alternatives;  // the most likely tokens under the unmodified logits, most likely first
};

struct Candidate {
  float score = 0;  // its logit, and once it is sure to stay, its weight
  int32_t token = 0;
};

// The working memory of sample(), one per sampling thread.
struct SamplingScratch {
  static size_t bytes(int32_t vocab);
  // `memory`: that many bytes, zeroed, aligned to 8.
  SamplingScratch(void* memory, int32_t vocab);

  BoundedList<double> block_sums;     // sums of `weights` by blocks
  BoundedList<Candidate> candidates;  // at most [vocab]
  float* weights;                     // [vocab] exp((logit - highest) / temperature)
  int32_t* counts;                    // [vocab], all zero between calls
  // Original values of the logits that penalties, bias and bans have changed; it grows with the request's lists.
  std::vector<TokenBias> overwritten;
};

// Samples a token. `logits` [vocab] are changed temporarily, and restored when the function returns or throws. Throws
// Error: INVALID_OPTION for an option out of its range, a token id outside [0, vocab), `allowed` of another vocabulary,
// penalties and biases that make a logit NaN or +infinity (naming the first), or bans that leave no token.
Sampled sample(float* logits, int32_t vocab, const SamplingParameters& parameters, SamplingScratch& scratch);

// Parts of sample(), for backends that sample on their device: the check of the options, and its later errors.
void check_sampling(const SamplingParameters& parameters, int32_t vocab);
Error invalid_logit(int32_t token, float logit);  // for a logit that the options have made NaN or +infinity
Error nothing_to_choose(int32_t vocab, size_t banned);

}  // namespace billfish
