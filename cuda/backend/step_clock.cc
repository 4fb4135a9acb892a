#include "backend/step_clock.h"

#include <atomic>
#include <mutex>
#include <utility>
#include <vector>

namespace billfish::BILLFISH_TARGET {

// A common origin of both clocks. Events measure in float milliseconds: after 30 seconds their resolution is 2
// microseconds.
struct StepClock::Origin {
  explicit Origin(Device& device) : event(device, true) {}
  Event event;
  double time = 0;
  static constexpr double lasts = 30'000;
};

struct StepClock::Marks {
  explicit Marks(Device& device) : began(device, true), ended(device, true) {}
  Event began, ended;
  std::shared_ptr<const Origin> origin;

  StageInterval interval() const {
    ended.synchronize();
    return {origin->time + Event::milliseconds(origin->event, began),
            origin->time + Event::milliseconds(origin->event, ended)};
  }
};

struct StepClock::Shared {
  std::mutex mutex;
  std::vector<std::unique_ptr<Marks>> free;
  std::atomic<bool> failed = false;
};

class StepClock::Work final : public StageWork {
 public:
  Work(std::unique_ptr<Marks> marks, std::shared_ptr<Shared> shared)
      : marks_(std::move(marks)), shared_(std::move(shared)) {}

  StageInterval settle() override {
    try {
      const StageInterval interval = marks_->interval();
      const std::lock_guard lock(shared_->mutex);
      shared_->free.push_back(std::move(marks_));
      return interval;
    } catch (...) {
      shared_->failed = true;
      throw;
    }
  }

 private:
  std::unique_ptr<Marks> marks_;
  std::shared_ptr<Shared> shared_;
};

StepClock::StepClock(Device& device) : device_(device), stream_(device), shared_(std::make_shared<Shared>()) {}
StepClock::~StepClock() = default;

void StepClock::renew_origin() {
  if (origin_ != nullptr && steady_milliseconds() - origin_->time < Origin::lasts) return;
  const auto origin = std::make_shared<Origin>(device_);
  stream_.record(origin->event);
  origin->event.synchronize();
  origin->time = steady_milliseconds();
  origin_ = origin;
}

void StepClock::begin(Stream& stream) {
  renew_origin();
  if (current_ == nullptr) {  // else the previous step has failed
    const std::lock_guard lock(shared_->mutex);
    if (!shared_->free.empty()) {
      current_ = std::move(shared_->free.back());
      shared_->free.pop_back();
    }
  }
  if (current_ == nullptr) current_ = std::make_unique<Marks>(device_);
  current_->origin = origin_;
  stream.record(current_->began);
}

std::unique_ptr<StageWork> StepClock::end(Stream& stream) {
  stream.record(current_->ended);
  return std::make_unique<Work>(std::move(current_), shared_);
}

bool StepClock::has_failed() { return shared_->failed.exchange(false); }

}  // namespace billfish::BILLFISH_TARGET
