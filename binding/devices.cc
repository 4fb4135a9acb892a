// Device discovery, for the backends that are compiled in.
#include "engine/error.h"
#include "platform/device_discovery.h"

#ifdef BILLFISH_WITH_CUDA
#include "cuda/backend/device_backend.h"
#include "cuda/runtime/discovery.h"
#endif

namespace billfish {

#ifdef BILLFISH_WITH_CUDA

CudaReport discover_cuda_devices() { return cuda::discover(); }

void test_cuda_device(int index) {
  const CudaReport report = discover_cuda_devices();
  if (report.status != CudaStatus::available) throw Error("DEVICE_NOT_FOUND", "no CUDA device: " + explain(report));
  if (index < 0 || index >= static_cast<int>(report.devices.size())) {
    throw Error("DEVICE_NOT_FOUND", "there is no cuda:" + std::to_string(index) + "; this process sees " +
                                        std::to_string(report.devices.size()) + " CUDA devices, numbered from cuda:0");
  }
  cuda::self_test(index);
}

#else

CudaReport discover_cuda_devices() { return {}; }

void test_cuda_device(int) { throw Error("DEVICE_NOT_FOUND", "no CUDA device: " + explain(discover_cuda_devices())); }

#endif

#ifdef BILLFISH_WITH_EMULATOR
std::string explain_emulator() { return ""; }
#else
std::string explain_emulator() {
  return "this build of billfish has no emulator, which is for tests. In a clone, build with BILLFISH_EMULATOR=on, as "
         "npm "
         "test does.";
}
std::vector<EmulatedDevice> list_emulated_devices() { return {}; }
#endif

}  // namespace billfish
