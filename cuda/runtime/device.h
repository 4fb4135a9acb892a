// One device of the process: a GPU (namespace billfish::cuda, "cuda:0") or an emulated one (billfish::emulated,
// "emulated:0"). Both targets implement this header and its neighbors; BILLFISH_TARGET names the one a source is built
// for.
#pragma once
#include <atomic>
#include <cstdint>
#include <mutex>
#include <string>

#include "engine/error.h"

namespace billfish::BILLFISH_TARGET {

struct DeviceProperties {
  std::string name;
  bool emulated = false;       // then times are meaningless
  int compute_capability = 0;  // 10 * major + minor: 80, 86, 90, ...: what the device supports
  int code_architecture = 0;   // what its code was compiled for, at most that: what kernels use
  int multiprocessors = 0;
  uint64_t total_bytes = 0;
  uint64_t l2_bytes = 0;
  uint32_t shared_bytes_per_block = 0;           // the maximum of a launch
  uint32_t shared_bytes_per_multiprocessor = 0;  // of all its blocks together
};

// Whether a device has had an error after which nothing can run there in this process.
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

class Device {
 public:
  // The device with this index, created on first use and never destroyed (no static destructor calls CUDA). Throws
  // DEVICE_NOT_FOUND with the reason.
  static Device& at(int index);

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  const std::string& name() const { return name_; }  // "cuda:0"
  const DeviceProperties& properties() const { return properties_; }
  uint64_t free_bytes() const;

  // Whether kernels on this device can access the peer's memory and copies go there directly. The first call enables
  // and tests it. False for devices that cannot, and for those that claim to but lose data.
  bool can_access(const Device& peer) const { return peer_access_error(peer).empty(); }
  // Why it has no access to the peer, without a period; empty if it has.
  std::string peer_access_error(const Device& peer) const;

  // Throws DEVICE_LOST once the device is lost, as does every call that involves it.
  void check_not_lost() const { loss_.check(); }
  // Marks the device as lost for good, because `what` failed.
  void mark_lost(const std::string& what) const { loss_.note(name_, what); }

  // Waits for everything that runs on the device. For tests and shutdown; steps are ordered by streams and events.
  void synchronize() const;

 private:
  friend class PretendedCode;  // of the emulator: a test sets its code_architecture
  explicit Device(int index);
  int index_;
  std::string name_;
  DeviceProperties properties_;
  mutable DeviceLoss loss_;
};

// Runs a kernel on `device` that reads a pattern from the peer's memory and writes another one there, with peer access
// enabled: whether it works where the driver says so (peer_trial.cu). Returns what went wrong, without a period; empty
// if both arrived. Where an IOMMU redirects transactions between PCIe devices, both are lost without any error.
std::string try_peer_memory(const Device& device, const Device& peer);

}  // namespace billfish::BILLFISH_TARGET
