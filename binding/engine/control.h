// How a long computation is ended early.
#pragma once
#include <atomic>

#include "engine/error.h"

namespace billfish {

// What a long computation may be told, from any thread.
struct Control {
  std::atomic<bool> cancelled{false};
  // Throws ABORTED once cancelled.
  void check() const {
    if (cancelled.load(std::memory_order_relaxed)) throw Error("ABORTED", "The computation was aborted.");
  }
};

}  // namespace billfish
