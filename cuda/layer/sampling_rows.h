// What the host tells the sampling kernel of each row, and what it answers.
#pragma once
#include <cstdint>

#include "layer/tensor.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// A change of a logit. Those of one phase change different tokens, and each phase sees what the ones before it did.
struct alignas(16) LogitEdit {
  enum Kind : int32_t {
    penalty,  // (logit > 0 ? logit / repetition : logit * repetition) - value
    bias,     // logit + value
    ban,      // -infinity
  };
  int32_t token;
  int32_t kind;
  float value;
  float original;  // the kernel keeps here what it changed
};

struct alignas(8) EditPhase {
  int32_t begin, end;  // of the edits
};

struct alignas(64) SampleRequest {
  double random;              // in [0, 1)
  double negligible;          // weights below this part of the total may be left out
  int32_t active;             // 0: nothing is wanted of this row
  int32_t top_k;              // 0: off
  int32_t alternatives;       // -1: no log-probabilities
  float inverse_temperature;  // 0: greedy
  float top_p, min_p, repetition;
  int32_t first_phase, phases;
  int32_t unused;
};
static_assert(sizeof(SampleRequest) == 64);

struct SampleAnswer {
  enum Status : int32_t { good, invalid_logit, none_left };
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
  const EditPhase* phases;
  SampleAnswer* answers;
  Alternative* alternatives;  // [rows][most_alternatives]
  int32_t most_alternatives;
};
void sample_rows(Stream& stream, const SampleRows& rows);

}  // namespace billfish::BILLFISH_TARGET
