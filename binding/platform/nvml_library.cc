#include "platform/nvml_library.h"

#include <dlfcn.h>

#include <algorithm>
#include <array>

namespace billfish {
namespace {

// nvmlMemory_t: total, free and used bytes. Functions of nvml.h return 0 on success.
using NvmlMemory = std::array<unsigned long long, 3>;

class Nvml {
 public:
  explicit Nvml(const char* library) : handle_(dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
    if (handle_ == nullptr || !find("nvmlInit_v2", init_) || !find("nvmlShutdown", shutdown_) ||
        !find("nvmlDeviceGetHandleByPciBusId_v2", device_at_) || !find("nvmlDeviceGetMemoryInfo", memory_of_)) {
      return;
    }
    is_open_ = init_() == 0;
  }
  ~Nvml() {
    if (is_open_) shutdown_();
    if (handle_ != nullptr) dlclose(handle_);
  }
  Nvml(const Nvml&) = delete;
  Nvml& operator=(const Nvml&) = delete;

  bool memory_at(const std::string& pci_bus_id, NvmlMemory& memory) const {
    void* device = nullptr;
    return is_open_ && device_at_(pci_bus_id.c_str(), &device) == 0 && memory_of_(device, memory.data()) == 0;
  }

 private:
  template <class Function>
  bool find(const char* name, Function& function) {
    function = reinterpret_cast<Function>(dlsym(handle_, name));
    return function != nullptr;
  }

  void* handle_;
  bool is_open_ = false;
  int (*init_)() = nullptr;
  int (*shutdown_)() = nullptr;
  int (*device_at_)(const char* pci_bus_id, void** device) = nullptr;
  int (*memory_of_)(void* device, unsigned long long* memory) = nullptr;
};

}  // namespace

std::optional<uint64_t> nvml_free_bytes(const char* library, const std::string& pci_bus_id, uint64_t total_bytes) {
  const Nvml nvml(library);
  NvmlMemory memory = {};
  if (!nvml.memory_at(pci_bus_id, memory)) return std::nullopt;
  // NVML includes the driver's own reserve, a few percent. The largest MIG part of a GPU is half of it.
  const auto [total, free, used] = memory;
  if (total > total_bytes + total_bytes / 4) return std::nullopt;
  return std::min<uint64_t>(free, total_bytes);
}

}  // namespace billfish
