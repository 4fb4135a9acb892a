// A step: one batch on its way through the stages, and its results.
#pragma once
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/activation_buffers.h"
#include "engine/batch.h"
#include "engine/error.h"
#include "engine/non_finite.h"
#include "engine/sampling.h"
#include "engine/stage_work.h"

namespace billfish {

// How to sample from one logit row. The vectors own what SamplingParameters points to, except for the tokens that the
// constraint allows: the stage asks for them when the row's logits are on their way, so a device computes meanwhile.
struct SamplingRequest {
  SamplingParameters parameters;
  std::vector<int32_t> prompt, generated, banned;
  std::vector<TokenBias> bias;
  std::shared_ptr<TokenConstraint> constraint;  // null: all tokens are allowed
};

struct StepResult {
  std::vector<float> logits;                      // [logit rows * width of the program's output], if wanted
  std::vector<std::vector<float>> hidden_states;  // by tap index, [token rows * width], if wanted
  std::vector<Sampled> samples;                   // one per sampling request, in the order of the rows
  std::vector<int32_t> non_finite_rows;  // logit rows that have a NaN or an infinity: nothing was sampled there
  std::vector<StageInterval> stages;     // when each stage worked on it
  std::vector<std::string> notices;      // of backends (take_notice)
};

class Backend;

struct Step {
  Batch batch;
  bool want_logits = false;
  bool want_hidden_states = false;
  std::vector<std::optional<SamplingRequest>> sampling;  // one per logit row; none if only logits are wanted
  // Checks each operator's output: the step fails with NON_FINITE, naming the first non-finite one.
  bool search = false;
  std::vector<std::optional<NonFiniteOutput>> found;  // of a search: what each rank of the current stage has found
  ActivationBuffers::Buffer hidden;                   // hidden states between two stages, [rows][width]
  Backend* sender = nullptr;                          // the backend that holds them instead, if any
  std::vector<std::unique_ptr<StageWork>> work;       // per stage; null if it is done when the calls return
  StepResult result;
  std::unique_ptr<Error> error;
  std::atomic<bool> cancelled{false};
  std::function<void(std::shared_ptr<Step>)> done;  // called once, on a stage's thread
};

}  // namespace billfish
