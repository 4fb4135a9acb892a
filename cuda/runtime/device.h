// One device of the process: a GPU (namespace billfish::cuda, "cuda:0") or an emulated one (billfish::emulated,
// "emulated:0"). Both implement this header and its neighbors; BILLFISH_TARGET says which one a source is built for.
#pragma once
#include <cstdint>
#include <string>

#include "runtime/device_loss.h"

namespace billfish::BILLFISH_TARGET {

struct DeviceProperties {
  std::string name;
  bool emulated = false;       // then times mean nothing
  int compute_capability = 0;  // 10 * major + minor: 80, 86, 90, ...: what the device is capable of
  int code_architecture = 0;   // what the code that runs there was compiled for, at most that: what kernels do
  int multiprocessors = 0;
  uint64_t total_bytes = 0;
  uint64_t l2_bytes = 0;
  uint32_t shared_bytes_per_block = 0;           // the most that a launch may ask for
  uint32_t shared_bytes_per_multiprocessor = 0;  // of all its blocks together
};

class Device {
 public:
  // The device of this number, made when it is first asked for, never destroyed (no CUDA call runs in a static
  // destructor). Throws DEVICE_NOT_FOUND with the reason.
  static Device& at(int index);

  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  int index() const { return index_; }
  const std::string& name() const { return name_; }  // "cuda:0"
  const DeviceProperties& properties() const { return properties_; }
  uint64_t free_bytes() const;

  // Whether kernels on this device may read and write the peer's memory, and copies go there directly; made so, and
  // tried, by the first call. False for devices that cannot, and for those that say they can but lose what is written.
  bool reaches(const Device& peer) const { return objection_to(peer).empty(); }
  // Why it does not reach the peer, without a period; empty where it does.
  std::string objection_to(const Device& peer) const;

  // Throws DEVICE_LOST, once the device is lost: as every call does that concerns it.
  void check_not_lost() const { loss_.check(); }
  // `what` failed, and with it all work here, for good. Not of the device's own state: others' calls may be under way.
  void lose(const std::string& what) const { loss_.note(name_, what); }

  // Waits for everything that runs on the device. For tests and shutdown; steps are ordered by streams and events.
  void synchronize() const;

 private:
  friend class PretendedCode;  // the emulator's
  explicit Device(int index);
  int index_;
  std::string name_;
  DeviceProperties properties_;
  mutable DeviceLoss loss_;
};

}  // namespace billfish::BILLFISH_TARGET
