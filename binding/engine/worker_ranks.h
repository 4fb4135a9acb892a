// The ranks of a stage behind the first, each on a thread of its own, doing every step along with it.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/rank_group.h"
#include "engine/stage.h"

namespace billfish {

class WorkerRanks {
 public:
  WorkerRanks(std::vector<std::unique_ptr<Stage>> stages, RankGroup& group);
  ~WorkerRanks();
  WorkerRanks(const WorkerRanks&) = delete;
  WorkerRanks& operator=(const WorkerRanks&) = delete;

  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }

  // All follow the step; `step` and `hidden` stay as they are until wait() has returned.
  void start(Step& step, const float* hidden);
  // Until all are through with it. What one of them failed of, the group knows.
  void wait();

 private:
  void work(Stage& stage);
  void stop();

  std::vector<std::unique_ptr<Stage>> stages_;
  RankGroup& group_;
  std::mutex mutex_;
  std::condition_variable started_, ended_;
  // Under `mutex_`:
  Step* step_ = nullptr;
  const float* hidden_ = nullptr;
  uint64_t steps_ = 0;  // that were started
  size_t at_work_ = 0;
  bool closed_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace billfish
