// The worker ranks of a stage (all but the first), or one of its branches (link.h), each on its own thread, running
// every step along with the first rank.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/stage.h"

namespace billfish {

class WorkerRanks {
 public:
  explicit WorkerRanks(std::vector<std::unique_ptr<Stage>> stages);
  ~WorkerRanks();
  WorkerRanks(const WorkerRanks&) = delete;
  WorkerRanks& operator=(const WorkerRanks&) = delete;

  const std::vector<std::unique_ptr<Stage>>& stages() const { return stages_; }

  // All workers run the step; `step` and `hidden` must not change until wait() has returned.
  void start(Step& step, const float* hidden);
  // Waits until all workers have finished. Their groups know the reason if one failed.
  void wait();

 private:
  void work(Stage& stage);
  void stop();

  std::vector<std::unique_ptr<Stage>> stages_;
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
