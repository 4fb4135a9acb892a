// An NVML for tests: one GPU, at 0000:3b:00.0, with 80 GB of which 33 GB are free. Others it does not find.
#include <cstring>

namespace {

constexpr int success = 0, not_initialized = 1, not_found = 6;
int opened = 0;
int the_device;

}  // namespace

#define FAKE extern "C" __attribute__((visibility("default"))) int

FAKE nvmlInit_v2() {
  ++opened;
  return success;
}

FAKE nvmlShutdown() {
  --opened;
  return success;
}

FAKE nvmlDeviceGetHandleByPciBusId_v2(const char* pci_bus_id, void** device) {
  if (opened != 1) return not_initialized;
  if (std::strcmp(pci_bus_id, "0000:3b:00.0") != 0) return not_found;
  *device = &the_device;
  return success;
}

FAKE nvmlDeviceGetMemoryInfo(void* device, unsigned long long* total_free_used) {
  if (opened != 1 || device != &the_device) return not_initialized;
  total_free_used[0] = 80'000'000'000;
  total_free_used[1] = 33'000'000'000;
  total_free_used[2] = 47'000'000'000;
  return success;
}
