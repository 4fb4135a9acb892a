// What the host tells the sampling kernel of each row, and what it answers.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// A change of a logit, one a token of a row:
//   (logit > 0 ? logit / repetition : logit * repetition) - penalty + bias
struct alignas(16) LogitEdit {
  int32_t token;
  float repetition;  // 1: none
  float penalty;     // the kernel keeps here what the logit was
  float bias;        // -infinity: the token is banned
};

struct alignas(64) SampleRequest {
  double random;              // in [0, 1)
  double negligible;          // weights below this part of the total may be left out
  int32_t active;             // 0: nothing is wanted of this row
  int32_t top_k;              // 0: off
  int32_t alternatives;       // -1: no log-probabilities
  float inverse_temperature;  // 0: greedy
  float top_p, min_p;
  int32_t first_edit, edits;
  int32_t first_alternative;  // where they go
  int32_t unused;
};
static_assert(sizeof(SampleRequest) == 64);

struct SampleAnswer {
  // non_finite: of the model's logits one is NaN or infinite; invalid_logit: the edits made one NaN or +infinity.
  enum Status : int32_t { good, invalid_logit, none_left, non_finite };
  double total;   // of the weights of the unmodified logits at temperature 1
  float highest;  // of the unmodified logits
  float logit;    // of the token, unmodified; or the invalid one
  int32_t token;  // or whose logit is invalid
  int32_t status;
  int32_t alternatives;  // how many there are
};
static_assert(sizeof(SampleAnswer) == 32);

struct alignas(8) Alternative {
  int32_t token;
  float logit;
};

struct SampleRows {
  Matrix<float> logits;  // changed in between
  const SampleRequest* requests;
  LogitEdit* edits;
  SampleAnswer* answers;
  Alternative* alternatives;
};
void sample_rows(Stream& stream, const SampleRows& rows);

}  // namespace billfish::BILLFISH_TARGET
