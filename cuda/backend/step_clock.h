// When the device worked on each step, by events: the stage's thread has turned to other steps by then.
#pragma once
#include <memory>

#include "engine/stage_work.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class StepClock {
 public:
  explicit StepClock(Device& device);
  ~StepClock();

  // Around the work of a step, on its stream.
  void begin(Stream& stream);
  std::unique_ptr<StageWork> end(Stream& stream);

  // Whether the work of a step has failed, as its settle() has told, since this was last asked.
  bool has_failed();

 private:
  struct Origin;
  struct Marks;
  struct Shared;
  class Work;
  void renew_origin();

  Device& device_;
  Stream stream_;  // with nothing in it: what is recorded there is past at once
  std::shared_ptr<const Origin> origin_;
  std::unique_ptr<Marks> current_;
  std::shared_ptr<Shared> shared_;  // with works, on other stages' threads
};

}  // namespace billfish::BILLFISH_TARGET
