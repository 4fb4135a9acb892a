// The running stages of one model: every stage has a thread and a queue, and steps flow through them in order.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "engine/stage.h"
#include "engine/step.h"

namespace billfish {

class Pipeline {
 public:
  Pipeline(std::vector<std::unique_ptr<Stage>> stages, const StageLimits& limits, int32_t vocabulary);
  ~Pipeline();  // close()
  Pipeline(const Pipeline&) = delete;
  Pipeline& operator=(const Pipeline&) = delete;

  std::vector<std::unique_ptr<Stage>>& stages() { return stages_; }

  // Starts the stages' threads; call once, after all weights are set.
  void start();

  // Throws INVALID_OPTION unless the batch is one that the stages can run: token ids and positions in range, block
  // tables long enough and in range. After this no operator can reach outside its buffers.
  void check(const Step& step) const;

  // Hands a checked step to the first stage. step->done is called when it is through, failed or cancelled.
  void submit(std::shared_ptr<Step> step);

  // Cancels every step in flight and waits for the stages' threads to end. Safe to call twice, from any thread except a
  // stage's own.
  void close();

 private:
  struct Lane;  // a stage with its thread and queue
  void work(size_t index);
  void pass_on(size_t index, std::shared_ptr<Step> step);
  void finish(std::shared_ptr<Step> step);
  static void fail(Step& step, const std::exception& error);

  std::vector<std::unique_ptr<Stage>> stages_;
  StageLimits limits_;
  int32_t vocabulary_;
  bool has_states_ = false;
  std::vector<std::unique_ptr<Lane>> lanes_;
  std::mutex close_mutex_;
  std::atomic<bool> closing_{false};
};

}  // namespace billfish
