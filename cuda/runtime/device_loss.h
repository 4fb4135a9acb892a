// A lost device: one that has had an error after which nothing can run there in this process.
#pragma once
#include <atomic>
#include <mutex>
#include <string>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

class DeviceLoss {
 public:
  // Records the first loss. `what`: the call and its error.
  void note(const std::string& device, const std::string& what) {
    const std::lock_guard lock(mutex_);
    if (lost_) return;
    message_ = device + " is lost: " + what +
               ". Nothing can be computed there before this process is restarted; models on other devices go on.";
    lost_ = true;
  }

  // Throws DEVICE_LOST after a loss, always with the same message.
  void check() const {
    if (!lost_.load(std::memory_order_acquire)) return;
    const std::lock_guard lock(mutex_);
    throw Error("DEVICE_LOST", message_);
  }

 private:
  std::atomic<bool> lost_ = false;
  mutable std::mutex mutex_;
  std::string message_;
};

}  // namespace billfish::BILLFISH_TARGET
