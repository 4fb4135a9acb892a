// When the device worked on each step, measured with events: by then the stage's thread has moved on to other steps.
#pragma once
#include <memory>

#include "engine/stage_work.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class StepClock {
 public:
  explicit StepClock(Device& device);
  ~StepClock();

  // Called around a step's work, on its stream.
  void begin(Stream& stream);
  std::unique_ptr<StageWork> end(Stream& stream);

  // Whether a step's work has failed (as its settle() found) since the last call.
  bool has_failed();

 private:
  struct Origin;
  struct Marks;
  struct Shared;
  class Work;
  void renew_origin();

  Device& device_;
  Stream stream_;  // always empty, so events recorded on it complete immediately
  std::shared_ptr<const Origin> origin_;
  std::unique_ptr<Marks> current_;
  std::shared_ptr<Shared> shared_;  // shared with StageWork objects on other threads
};

}  // namespace billfish::BILLFISH_TARGET
