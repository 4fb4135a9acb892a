// A stage: consecutive modules on one device, with their weights, their part of the KV cache and their buffers; or one
// rank's share of them, for a stage on several devices.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/activation_buffers.h"
#include "engine/backend.h"
#include "engine/link.h"
#include "engine/places.h"
#include "engine/program.h"
#include "engine/rank_group.h"
#include "engine/stage_limits.h"
#include "engine/step.h"

namespace billfish {

class WorkerRanks;

// A rank of a stage. The first one receives steps, passes them on and samples; the others are its workers. Branches
// (link.h) are numbered behind the ranks.
struct StageRank {
  std::shared_ptr<RankGroup> group;  // null if it is the only one, and for a branch
  int rank = 0;
};

class Stage {
 public:
  // Validates the program against the weights' shapes and allocates all that steps will need: from then on a step
  // allocates nothing but its results. Throws Error.
  Stage(std::unique_ptr<Backend> backend, Program program, std::vector<WeightShape> shapes, const StageLimits& limits,
        StageRank rank = {});
  ~Stage();

  Backend& backend() { return *backend_; }
  const Backend& backend() const { return *backend_; }
  const std::vector<WeightShape>& weight_shapes() const { return shapes_; }
  // Whether it ends with logits, which tokens can be drawn from; else with hidden states.
  bool gives_logits() const { return program_.values[program_.output].kind == ValueClass::logits; }

  // Whether it keeps states of sequences, which need a slot each.
  bool has_states() const { return !states_.empty(); }

  // Weights are created by the loader, in the order of their shapes; run() needs all of them.
  void set_weight(size_t index, std::unique_ptr<Weight> weight) { weights_[index] = std::move(weight); }

  // For the first rank: takes ownership of the others. Before the first step. Throws INTERNAL if their programs do not
  // match, and INVALID_OPTION if their devices cannot be ranks of one stage.
  void attach_workers(std::vector<std::unique_ptr<Stage>> workers);
  // For the first rank: takes ownership of the branch of each of its links, in order. Before the first step. Throws
  // INTERNAL if their programs do not match.
  void attach_branches(std::vector<std::unique_ptr<Stage>> branches);
  // All that run a step along with this one: workers, and then branches.
  std::vector<Stage*> companions() const;

  // Contributes the stage's buffer to those for hidden states between stages. Before the first step, unless the stage
  // is the model's only one.
  void join(const std::shared_ptr<ActivationBuffers>& activation_buffers);

  // Connects the next stage: hidden states go from device to device if both can. Before the first step.
  void connect_to(const Stage& next) {
    const bool is_alone = !rank_.group && branches_.empty();  // else a step may fail after this rank has sent
    sends_to_peer_ = is_alone && !next.rank_.group && next.backend_->can_receive_from(*backend_);
  }

  // Acquires a buffer for the step's hidden states, unless it has one or this is the last stage. Waits while other
  // steps hold all of them; only the first stage's steps ever wait, so later stages always progress.
  void admit(Step& step);

  // Runs the program on an admitted step: reads hidden states if the program has an input, and leaves hidden states, or
  // results on the last stage. Returns what Backend::end() does. Throws ABORTED between two operators once
  // step.cancelled is set; some of the step's work may still be in flight.
  std::unique_ptr<StageWork> run(Step& step);

  // Runs a step together with the first rank, as a worker or a branch. `hidden`: that rank's input, if the program has
  // one. A failure is told to those that this one meets.
  void run_as_worker(Step& step, const float* hidden);

 private:
  using OperatorIterator = std::vector<Operator>::const_iterator;
  bool is_first_rank() const { return rank_.rank == 0; }
  bool is_branch() const { return !is_first_rank() && !rank_.group; }
  std::vector<RankGroup*> groups() const;
  std::unique_ptr<StageWork> compute(Step& step, ActivationBuffers::Buffer& hidden, const float* input);
  Tensor tensor(ValueId id) const;
  void receive_input(Step& step, const float* hidden);
  void send_hidden(Step& step, float* hidden);
  int64_t first_row_of(ValueId id) const;
  bool is_handed_over_in_chunks(const Step& step, ValueId id) const;
  void execute(const Operator& op, Step& step);
  template <class Op>
  Call<Op> bind(const Op& op);
  void tap(const Tap& op, Step& step);
  void send(const Send& op, const Step& step);
  void receive(const Receive& op, const Step& step);
  size_t order_of(const Operator& op) const;
  void search(OperatorIterator op, Step& step);
  void report_search(Step& step) const;
  std::string name_of(OperatorIterator op, WeightId weight) const;
  void publish(ValueId x, ValueId out, const std::vector<GatheredPiece>* pieces = nullptr);
  void release();
  void execute(OperatorIterator first, OperatorIterator last, Step& step);
  bool is_decode(const Step& step) const;
  void run_decode(Step& step);
  bool has_head() const { return head_ != program_.operators.cend(); }
  void run_head(Step& step, const float* input, float* hidden);
  void collect_results(Step& step);
  void check_not_cancelled(const Step& step) const;

  std::unique_ptr<Backend> backend_;
  Program program_;
  Places places_;
  std::vector<WeightShape> shapes_;
  StageLimits limits_;
  StageRank rank_;
  std::unique_ptr<WorkerRanks> workers_;
  std::vector<std::shared_ptr<Link>> links_;            // to the branches; of a branch the one to its stage
  std::vector<std::unique_ptr<WorkerRanks>> branches_;  // one at a link
  std::vector<std::unique_ptr<Weight>> weights_;
  uint8_t* token_arena_ = nullptr;
  uint8_t* logit_arena_ = nullptr;
  std::vector<LayerCache> caches_;
  std::vector<LayerState> states_;
  std::vector<Call<LinearTarget>> targets_;  // of the call that is being made
  OperatorIterator head_;                    // the first operator on logit rows, which all behind it are on, if any
  bool sends_hidden_ = false;                // hidden states, to a next stage
  bool sends_to_peer_ = false;               // directly to its backend
  int64_t hidden_width_ = 0;
  float* hidden_ = nullptr;  // the buffer that it contributes, if it is not the only stage
  std::shared_ptr<ActivationBuffers> activation_buffers_;
  Backend::SamplingRequests requests_;  // of the current logit rows

  // The rows of the step in progress.
  int64_t token_rows_ = 0;
  int64_t first_logit_row_ = 0, logit_rows_ = 0;
};

}  // namespace billfish
