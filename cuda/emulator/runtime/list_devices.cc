#include "machine/device.h"
#include "platform/device_discovery.h"
#include "runtime/device.h"

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
