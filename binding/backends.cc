#include "backends.h"

#include <algorithm>
#include <cctype>

#include "cpu/cpu_backend.h"
#include "engine/device_discovery.h"
#include "engine/error.h"

namespace billfish {

// cpu, or cpu:N with any N: CPU devices can be numbered freely, so that a layer split can be tried anywhere.
static bool is_cpu(const std::string& device) {
  if (device == "cpu") return true;
  return device.size() > 4 && device.size() < 12 && device.compare(0, 4, "cpu:") == 0 &&
         std::all_of(device.begin() + 4, device.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options) {
  if (is_cpu(device)) {
    return cpu::make_cpu_backend(
        {device, options.exact ? cpu::Precision::exact : cpu::Precision::fast, options.cache_type});
  }
  if (device.compare(0, 5, "cuda:") == 0) {
    const CudaReport report = discover_cuda_devices();
    const std::string reason = explain(report);
    throw Error("DEVICE_NOT_FOUND",
                "Device " + device + " cannot run a model: " +
                    (reason.empty() ? "this version finds CUDA devices but has no CUDA backend yet" : reason) +
                    ". Use cpu, or cpu:0, cpu:1, ... to try a split.");
  }
  throw Error("DEVICE_NOT_FOUND",
              "There is no device '" + device + "'. Devices are cpu, cpu:0, cpu:1, ... and cuda:0, cuda:1, ...");
}

}  // namespace billfish
