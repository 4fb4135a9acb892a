// A stage: the consecutive modules on one device, with their weights, their part of the KV cache and their buffers.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/backend.h"
#include "engine/program.h"
#include "engine/stage_limits.h"
#include "engine/step.h"

namespace billfish {

class Stage {
 public:
  // Validates the program against the weights' shapes and allocates cache and buffers. Throws Error.
  Stage(std::unique_ptr<Backend> backend, Program program, std::vector<WeightShape> shapes, const StageLimits& limits);

  Backend& backend() { return *backend_; }
  const Backend& backend() const { return *backend_; }
  const std::vector<WeightShape>& weight_shapes() const { return shapes_; }

  // Weights are made by the loader, in the order of their shapes; run() needs all of them.
  void set_weight(size_t index, std::unique_ptr<Weight> weight) { weights_[index] = std::move(weight); }

  // Runs the program on the step: takes step.hidden if the program has an input, and leaves step.hidden, or the
  // results of the last stage. Throws ABORTED between two operators once step.cancelled is set.
  void run(Step& step);

 private:
  Tensor tensor(ValueId id) const;
  void execute(const Operator& op, Step& step);
  void run_head(Step& step, size_t gather);
  void check_not_cancelled(const Step& step) const;

  std::unique_ptr<Backend> backend_;
  Program program_;
  std::vector<WeightShape> shapes_;
  StageLimits limits_;
  std::vector<std::unique_ptr<Weight>> weights_;
  uint8_t* token_arena_ = nullptr;
  uint8_t* logit_arena_ = nullptr;
  struct LayerCache {
    void* keys;
    void* values;
  };
  std::vector<LayerCache> caches_;
  std::vector<Backend::LinearCall> calls_;
  std::vector<float> logits_;
  SamplingScratch sampling_scratch_;

  // The rows of the step in progress.
  int64_t token_rows_ = 0;
  int64_t first_logit_row_ = 0, logit_rows_ = 0;
};

}  // namespace billfish
