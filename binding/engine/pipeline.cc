#include "engine/pipeline.h"

#include <exception>
#include <string>
#include <utility>

#include "engine/error.h"
#include "engine/stage_thread.h"

namespace billfish {

struct Pipeline::Lane {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<std::shared_ptr<Step>> queue;
  std::shared_ptr<Step> current;  // under `mutex`, so that close() can cancel it
  bool closed = false;
  std::thread thread;
};

Pipeline::Pipeline(std::vector<std::unique_ptr<Stage>> stages, const StageLimits& limits, int32_t vocabulary)
    : stages_(std::move(stages)), limits_(limits), vocabulary_(vocabulary) {
  const auto activation_buffers = std::make_shared<ActivationBuffers>();
  for (const auto& stage : stages_) {
    has_states_ = has_states_ || stage->has_states();
    stage->join(activation_buffers);
    lanes_.push_back(std::make_unique<Lane>());
  }
  for (size_t i = 1; i < stages_.size(); ++i) stages_[i - 1]->connect_to(*stages_[i]);
}

Pipeline::~Pipeline() { close(); }

void Pipeline::start() {
  for (size_t i = 0; i < lanes_.size(); ++i) lanes_[i]->thread = std::thread([this, i] { work(i); });
}

void Pipeline::check(const Step& step) const {
  const Batch& batch = step.batch;
  const auto require = [](bool condition, const std::string& what) {
    if (!condition) throw Error("INVALID_OPTION", "The batch cannot be run: " + what + ".");
  };
  const int64_t rows = batch.rows();
  require(rows > 0 && rows <= limits_.max_rows,
          std::to_string(rows) + " tokens, where 1 to " + std::to_string(limits_.max_rows) + " fit");
  require(static_cast<int64_t>(batch.positions.size()) == rows, "positions and tokens differ in number");
  for (int32_t token : batch.tokens) {
    require(token >= 0 && token < vocabulary_,
            "token id " + std::to_string(token) + " is outside the vocabulary of " + std::to_string(vocabulary_));
  }
  int64_t next = 0;
  std::vector<bool> taken(static_cast<size_t>(limits_.max_sequences), false);
  for (const SequenceSpan& span : batch.sequences) {
    require(span.slot >= 0 && span.slot < limits_.max_sequences,
            "slot " + std::to_string(span.slot) + " of " + std::to_string(limits_.max_sequences));
    require(!has_states_ || !taken[span.slot], "two sequences have slot " + std::to_string(span.slot));
    taken[span.slot] = true;
    require(span.first_row == next && span.rows > 0 && span.rows <= rows - next, "sequences do not cover its rows");
    next += span.rows;
    const int64_t length = static_cast<int64_t>(span.past) + span.rows;
    require(span.past >= 0 && length <= static_cast<int64_t>(span.block_count) * limits_.block_size,
            std::to_string(length) + " positions do not fit " + std::to_string(span.block_count) + " KV blocks of " +
                std::to_string(limits_.block_size));
    for (int32_t i = 0; i < span.block_count; ++i) {
      require(span.blocks[i] >= 0 && span.blocks[i] < limits_.block_count,
              "KV block " + std::to_string(span.blocks[i]) + " of " + std::to_string(limits_.block_count));
    }
    for (int32_t i = 0; i < span.rows; ++i) {
      require(batch.positions[span.first_row + i] == span.past + i, "positions do not follow each other");
    }
  }
  require(next == rows, "sequences do not cover its rows");
  int32_t last = -1;
  for (int32_t row : batch.logit_rows) {
    require(row > last && row < rows, "logit rows are not ascending rows of the batch");
    last = row;
  }
  require(step.sampling.size() == batch.logit_rows.size(), "sampling is told for " +
                                                               std::to_string(step.sampling.size()) + " of " +
                                                               std::to_string(batch.logit_rows.size()) + " logit rows");
}

void Pipeline::submit(std::shared_ptr<Step> step) {
  step->result.stages.resize(stages_.size());
  step->work.resize(stages_.size());
  pass_on(0, std::move(step));
}

void Pipeline::pass_on(size_t index, std::shared_ptr<Step> step) {
  Lane& lane = *lanes_[index];
  {
    std::lock_guard lock(lane.mutex);
    if (!lane.closed) {
      lane.queue.push_back(std::move(step));
      lane.wake.notify_one();
      return;
    }
  }
  step->error = std::make_unique<Error>("DISPOSED", "The model was disposed while the step was under way.");
  finish(std::move(step));
}

void Pipeline::fail(Step& step, const std::exception& error) {
  if (step.error) return;  // the first failure is reported
  const auto* known = dynamic_cast<const Error*>(&error);
  step.error = known ? std::make_unique<Error>(*known)
                     : std::make_unique<Error>("INTERNAL", std::string("Running a step failed: ") + error.what());
}

// Devices may still be working on it: an aborted step, or work after its results.
void Pipeline::finish(std::shared_ptr<Step> step) {
  for (size_t i = 0; i < step->work.size(); ++i) {
    const std::unique_ptr<StageWork> work = std::move(step->work[i]);
    if (work == nullptr) continue;
    try {
      step->result.stages[i] = work->settle();
    } catch (const std::exception& error) {
      fail(*step, error);
    }
  }
  auto done = std::move(step->done);
  done(std::move(step));
}

// For all that run a step of the stage, none of which is running.
static void take_notices(Stage& stage, Step& step) {
  const auto take = [&](Backend& backend) {
    if (std::string notice = backend.take_notice(); !notice.empty()) step.result.notices.push_back(std::move(notice));
  };
  take(stage.backend());
  for (Stage* companion : stage.companions()) take(companion->backend());
}

void Pipeline::work(size_t index) {
  prepare_stage_thread("billfish-s" + std::to_string(index));
  Lane& lane = *lanes_[index];
  for (;;) {
    std::shared_ptr<Step> step;
    {
      std::unique_lock lock(lane.mutex);
      lane.current.reset();
      lane.wake.wait(lock, [&] { return lane.closed || !lane.queue.empty(); });
      if (lane.queue.empty()) return;
      step = std::move(lane.queue.front());
      lane.queue.pop_front();
      lane.current = step;
      if (lane.closed) step->cancelled = true;
    }
    stages_[index]->admit(*step);
    StageInterval& interval = step->result.stages[index];
    interval.begin = steady_milliseconds();
    try {
      step->work[index] = stages_[index]->run(*step);
      take_notices(*stages_[index], *step);
    } catch (const std::exception& error) {
      fail(*step, error);
      stages_[index]->backend().drain();
    }
    interval.end = steady_milliseconds();
    if (step->error && step->error->code() == "ABORTED" && closing_) {
      step->error = std::make_unique<Error>("DISPOSED", "The model was disposed while the step was under way.");
    }
    if (step->error || index + 1 == stages_.size()) {
      finish(std::move(step));
    } else {
      pass_on(index + 1, std::move(step));
    }
  }
}

void Pipeline::close() {
  std::lock_guard closing(close_mutex_);
  closing_ = true;
  // First to last: a stage that still passes a step on finds the next one's queue closed only after its own thread
  // could have ended, so every step is finished by somebody.
  for (auto& lane : lanes_) {
    {
      std::lock_guard lock(lane->mutex);
      lane->closed = true;
      for (auto& step : lane->queue) step->cancelled = true;
      if (lane->current) lane->current->cancelled = true;
      lane->wake.notify_all();
    }
    if (lane->thread.joinable()) lane->thread.join();
  }
  for (const auto& stage : stages_) stage->backend().drain();  // one may still be reading what another sent
}

}  // namespace billfish
