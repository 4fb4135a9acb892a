// The sampling kernel's input and output per row, and where both lie in the device's memory.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "cuda/memory/allocation.h"

namespace billfish::gpu {

// An edit of a logit, at most one per token of a row:
//   (logit > 0 ? logit / repetition : logit * repetition) - penalty + bias
struct alignas(16) LogitEdit {
  int32_t token;
  float repetition;  // 1: none
  float penalty;     // the kernel saves the original logit here
  float bias;        // -infinity: the token is banned
};

struct alignas(64) SampleRequest {
  double random;              // in [0, 1)
  double negligible;          // weights below this fraction of the total may be ignored
  int32_t active;             // 0: no token is wanted
  int32_t top_k;              // 0: off
  int32_t alternatives;       // -1: no log-probabilities
  float inverse_temperature;  // 0: greedy
  float top_p, min_p;
  int32_t first_edit, edits;
  int32_t first_alternative;  // where they go
  int32_t allowed;            // the place among the edits where the allowed tokens' bits begin; -1: all are allowed
};

struct SampleAnswer {
  // non_finite: one of the model's logits is NaN or infinite; invalid_logit: the edits made one NaN or +infinity.
  enum Status : int32_t { good, invalid_logit, none_left, non_finite };
  double total;   // of the weights of the unmodified logits at temperature 1
  float highest;  // of the unmodified logits
  float logit;    // the token's, unmodified; or the invalid one
  int32_t token;  // the sampled one, or the one whose logit is invalid
  int32_t status;
  int32_t alternatives;  // how many there are
};

struct alignas(8) Alternative {
  int32_t token;
  float logit;
};

struct SamplerLimits {
  int32_t vocabulary = 0;
  int32_t max_rows = 0;  // per call
};

//   image: requests | edits and allowed tokens;   then answers | alternatives, which come back
// The bits of a row's allowed tokens lie behind its edits and take as much room as an edit for every 128 tokens.
struct SamplerLayout {
  explicit SamplerLayout(const SamplerLimits& limits) {
    const auto rows = static_cast<size_t>(limits.max_rows), vocabulary = static_cast<size_t>(limits.vocabulary);
    edits_at_most = vocabulary + std::max(1024 * rows, vocabulary / 128 + 1);
    alternatives_at_most = vocabulary + 64 * rows;
    Sections sections;
    sections.take<SampleRequest>(rows);
    edits = sections.take<LogitEdit>(edits_at_most);
    image_bytes = sections.end();
    answers = sections.take<SampleAnswer>(rows);
    alternatives = sections.take<Alternative>(alternatives_at_most);
    bytes = sections.end();
  }

  // Of all rows together: what one row may need, and some for each.
  size_t edits_at_most, alternatives_at_most;
  size_t edits, image_bytes, answers, alternatives, bytes;
};

}  // namespace billfish::gpu
