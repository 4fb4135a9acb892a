#include "machine/device.h"

#include <algorithm>
#include <cstdlib>
#include <mutex>

#include "engine/error.h"

namespace billfish::emulator {

static uint64_t configured_bytes() {
  const char* text = std::getenv("BILLFISH_EMULATED_MEMORY");
  if (text == nullptr || *text == '\0') return uint64_t{4} << 30;
  char* end = nullptr;
  const unsigned long long bytes = std::strtoull(text, &end, 10);
  if (*end != '\0' || bytes == 0 || bytes > uint64_t{1} << 40) {
    throw Error("INVALID_OPTION",
                "BILLFISH_EMULATED_MEMORY is '" + std::string(text) + "'; it must be a number of bytes, at most 2^40.");
  }
  return bytes;
}

static int configured_code() {
  const char* text = std::getenv("BILLFISH_EMULATED_CODE");
  const std::string value = text == nullptr ? "" : text;
  if (value.empty() || value == "90") return 90;
  if (value == "80") return 80;
  throw Error("INVALID_OPTION", "BILLFISH_EMULATED_CODE is '" + value + "'; it must be 80 or 90.");
}

Device::Device(int index)
    : index(index),
      name("emulated:" + std::to_string(index)),
      compute_capability(index < device_count / 2 ? 90 : 80),
      code_architecture(std::min(compute_capability, configured_code())),
      memory(name, configured_bytes()) {}

static std::atomic<Device*> devices[device_count];

Device& device(int index) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  std::atomic<Device*>& place = devices[index];
  if (place.load() == nullptr) place = new Device(index);  // never destroyed, as a GPU is not
  return *place.load();
}

Device* device_of(uintptr_t address) {
  for (std::atomic<Device*>& place : devices) {
    Device* device = place.load(std::memory_order_acquire);
    if (device != nullptr && device->memory.contains(address)) return device;
  }
  return nullptr;
}

std::string access_objection(const Device& from, uintptr_t address, size_t bytes) {
  if (address < 4096) return "is a null pointer";
  const Device* owner = device_of(address);
  if (owner == nullptr) return "is no address of an emulated device (memory of the host?)";
  if (owner != &from && (from.reached.load() >> owner->index & 1) == 0) {
    return "is " + owner->memory.describe(address) + ", a device that " + from.name +
           " has not been given access to (Device::can_access)";
  }
  return owner->memory.explain(address, bytes);
}

}  // namespace billfish::emulator
