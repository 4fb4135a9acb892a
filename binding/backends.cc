#include "backends.h"

#include <algorithm>
#include <cctype>
#include <optional>

#include "cpu/cpu_backend.h"
#include "cuda/backend/make_backend.h"
#include "cuda/tuning/tune.h"
#include "engine/error.h"
#include "platform/device_discovery.h"

namespace billfish {

// The N of `kind`:N.
static std::optional<int> index_of(const std::string& device, const std::string& kind) {
  const size_t digits = kind.size() + 1;
  if (device.size() <= digits || device.size() > digits + 6 || device.compare(0, digits, kind + ":") != 0) return {};
  if (!std::all_of(device.begin() + static_cast<std::ptrdiff_t>(digits), device.end(),
                   [](unsigned char c) { return std::isdigit(c) != 0; })) {
    return {};
  }
  return std::stoi(device.substr(digits));
}

#if !defined(BILLFISH_WITH_CUDA) || !defined(BILLFISH_WITH_EMULATOR)
[[noreturn]] static void refuse(const std::string& kind, int index, const std::string& reason) {
  throw Error("DEVICE_NOT_FOUND", "There is no device " + kind + ":" + std::to_string(index) + ": " + reason);
}
#endif

// Stand-ins for backends that are not compiled in.
#ifndef BILLFISH_WITH_CUDA
namespace cuda {
[[noreturn]] static void refuse(int index) { billfish::refuse("cuda", index, explain(discover_cuda_devices())); }
std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options) { refuse(options.index); }
TuneReport tune(const TuneOptions& options) { refuse(options.device); }
}  // namespace cuda
#endif
#ifndef BILLFISH_WITH_EMULATOR
namespace emulated {
[[noreturn]] static void refuse(int index) { billfish::refuse("emulated", index, explain_emulator()); }
std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options) { refuse(options.index); }
TuneReport tune(const TuneOptions& options) { refuse(options.device); }
}  // namespace emulated
#endif

std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options) {
  // CPU devices can be numbered freely, so that splitting layers can be tried anywhere.
  const cpu::Precision precision = options.exact ? cpu::Precision::exact : cpu::Precision::fast;
  if (device == "cpu" || index_of(device, "cpu")) {
    return cpu::make_cpu_backend({device, precision, options.cache_type});
  }
  if (device == "disk") {
    if (options.offload_directory.empty()) throw Error("INVALID_OPTION", "Device disk needs an offloadDirectory.");
    return cpu::make_cpu_backend({device, precision, options.cache_type, options.offload_directory});
  }
  const std::optional<int> gpu = index_of(device, "cuda"), emulated_gpu = index_of(device, "emulated");
  if (!gpu && !emulated_gpu) {
    throw Error("DEVICE_NOT_FOUND", "There is no device '" + device +
                                        "'. Devices are cpu, cpu:0, cpu:1, ..., disk, and cuda:0, cuda:1, ...");
  }
  if (options.exact) {
    throw Error("INVALID_OPTION", "dtype 'float32' is for CPU devices: " + device +
                                      " computes in 16 bits. Use 'auto', 'float16' or 'bfloat16'.");
  }
  if (gpu) return cuda::make_backend({*gpu, options.activation_type});
  return emulated::make_backend({*emulated_gpu, options.activation_type});
}

TuneReport tune_gemm(const std::string& device, const TuneOptions& options) {
  const std::optional<int> gpu = index_of(device, "cuda"), emulated_gpu = index_of(device, "emulated");
  if (!gpu && !emulated_gpu) {
    throw Error("INVALID_OPTION", "There is nothing to tune on device '" + device + "'; name a GPU such as cuda:0.");
  }
  TuneOptions on_device = options;
  on_device.device = gpu ? *gpu : *emulated_gpu;
  return gpu ? cuda::tune(on_device) : emulated::tune(on_device);
}

}  // namespace billfish
