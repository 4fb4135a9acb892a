// One device of the process: a GPU (namespace billfish::cuda, "cuda:0") or an emulated one (billfish::emulated,
// "emulated:0"). Both targets implement this header and its neighbors; BILLFISH_TARGET names the one a source is built
// for.
#pragma once
#include <cstdint>
#include <string>

#include "runtime/device_loss.h"

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
  friend class PretendedCode;  // the emulator's
  explicit Device(int index);
  int index_;
  std::string name_;
  DeviceProperties properties_;
  mutable DeviceLoss loss_;
};

}  // namespace billfish::BILLFISH_TARGET
