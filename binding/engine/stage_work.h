// When a stage worked on a step, and a handle for device work that outlives the stage thread's part of it.
#pragma once
#include <chrono>

namespace billfish {

// Milliseconds on the steady clock.
inline double steady_milliseconds() {
  using namespace std::chrono;
  return duration<double, std::milli>(steady_clock::now().time_since_epoch()).count();
}

struct StageInterval {
  double begin = 0, end = 0;  // steady_milliseconds()
};

class StageWork {
 public:
  virtual ~StageWork() = default;
  // Waits until the device is done and returns when it worked. Throws what failed there. Call once, from any thread.
  virtual StageInterval settle() = 0;
};

}  // namespace billfish
