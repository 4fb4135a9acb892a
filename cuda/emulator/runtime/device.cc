#include "runtime/device.h"

#include <cstdlib>
#include <mutex>
#include <string>
#include <vector>

#include "engine/error.h"
#include "machine/device.h"
#include "platform/device_discovery.h"

namespace billfish::BILLFISH_TARGET {

// Small GPUs: few multiprocessors, so that kernels that divide work among them have more than one share each.
Device::Device(int index) : index_(index), name_("emulated:" + std::to_string(index)) {
  properties_.emulated = true;
  properties_.compute_capability = emulator::device(index).compute_capability;
  properties_.code_architecture = emulator::device(index).code_architecture;
  const bool hopper = properties_.compute_capability >= 90;
  properties_.name = hopper ? "emulated Hopper" : "emulated Ampere";
  properties_.multiprocessors = 4;
  properties_.total_bytes = emulator::device(index).memory.capacity();
  properties_.l2_bytes = uint64_t{1} << 20;
  properties_.shared_bytes_per_block = (hopper ? 227 : 163) * 1024;
  properties_.shared_bytes_per_multiprocessor = (hopper ? 228 : 164) * 1024;
}

Device& Device::at(int index) {
  if (index < 0 || index >= emulator::device_count) {
    throw Error("DEVICE_NOT_FOUND", "There is no device emulated:" + std::to_string(index) +
                                        ": emulated devices are numbered 0 to " +
                                        std::to_string(emulator::device_count - 1) + ".");
  }
  static Device* devices[emulator::device_count];
  static std::mutex& mutex = *new std::mutex;
  const std::lock_guard lock(mutex);
  if (devices[index] == nullptr) devices[index] = new Device(index);
  return *devices[index];
}

uint64_t Device::free_bytes() const { return emulator::device(index_).memory.free_bytes(); }

std::string Device::peer_access_error(const Device& peer) const {
  if (&peer == this) return "";
  const char* const variable = std::getenv("BILLFISH_EMULATED_PEERS");
  const std::string peers = variable == nullptr ? "" : variable;
  if (peers == "off") return name_ + " does not reach the memory of " + peer.name_ + " (BILLFISH_EMULATED_PEERS)";
  emulator::Device& device = emulator::device(index_);
  device.loses_peer_reads = peers == "lost";
  device.loses_peer_writes = peers == "lost" || peers == "lost-writes";
  const uint32_t bit = uint32_t{1} << peer.index_;
  if (!device.loses_peer_writes && (device.reached.load() & bit) != 0) return "";
  device.reached |= bit;
  std::string lost = try_peer_memory(*this, peer);
  if (!lost.empty()) device.reached &= ~bit;
  return lost;
}

}  // namespace billfish::BILLFISH_TARGET

namespace billfish {

std::vector<EmulatedDevice> list_emulated_devices() {
  std::vector<EmulatedDevice> all;
  for (int i = 0; i < emulator::device_count; ++i) {
    const emulated::Device& device = emulated::Device::at(i);
    const emulated::DeviceProperties& properties = device.properties();
    all.push_back({device.name(), properties.compute_capability / 10, properties.compute_capability % 10,
                   properties.code_architecture, properties.total_bytes, device.free_bytes(),
                   properties.multiprocessors});
  }
  return all;
}

}  // namespace billfish
