#include "engine/worker_ranks.h"

#include <utility>

#include "engine/stage_thread.h"

namespace billfish {

WorkerRanks::WorkerRanks(std::vector<std::unique_ptr<Stage>> stages) : stages_(std::move(stages)) {
  try {
    for (const auto& stage : stages_) threads_.emplace_back([this, &stage] { work(*stage); });
  } catch (...) {
    stop();  // a thread that is neither joined nor detached terminates the process
    throw;
  }
}

WorkerRanks::~WorkerRanks() { stop(); }

void WorkerRanks::stop() {
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    started_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void WorkerRanks::start(Step& step, const float* hidden) {
  std::lock_guard lock(mutex_);
  step_ = &step;
  hidden_ = hidden;
  at_work_ = stages_.size();
  ++steps_;
  started_.notify_all();
}

void WorkerRanks::wait() {
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [&] { return at_work_ == 0; });
}

void WorkerRanks::work(Stage& stage) {
  prepare_stage_thread("billfish-rank");
  uint64_t done = 0;
  for (;;) {
    Step* step;
    const float* hidden;
    {
      std::unique_lock lock(mutex_);
      started_.wait(lock, [&] { return closed_ || steps_ > done; });
      if (closed_) return;
      done = steps_;
      step = step_;
      hidden = hidden_;
    }
    stage.run_as_worker(*step, hidden);
    std::lock_guard lock(mutex_);
    if (--at_work_ == 0) ended_.notify_all();
  }
}

}  // namespace billfish
