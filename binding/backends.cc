#include "backends.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <vector>

#include "cpu/cpu_backend.h"
#include "cpu/stage_memory.h"
#include "cuda/backend/device_backend.h"
#include "cuda/memory/stage_needs.h"
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

namespace {

// CPU devices can be numbered freely, so that a layer split can be tried anywhere.
enum class DeviceKind { cpu, disk, cuda, emulated };
struct DeviceName {
  DeviceKind kind;
  int index = 0;

  bool is_gpu() const { return kind == DeviceKind::cuda || kind == DeviceKind::emulated; }
};

DeviceName parse_device(const std::string& device) {
  if (device == "cpu" || index_of(device, "cpu")) return {DeviceKind::cpu};
  if (device == "disk") return {DeviceKind::disk};
  if (const auto index = index_of(device, "cuda")) return {DeviceKind::cuda, *index};
  if (const auto index = index_of(device, "emulated")) return {DeviceKind::emulated, *index};
  throw Error("DEVICE_NOT_FOUND",
              "There is no device '" + device + "'. Devices are cpu, cpu:0, cpu:1, ..., disk, and cuda:0, cuda:1, ...");
}

cpu::Precision precision_of(const BackendOptions& options) {
  return options.exact ? cpu::Precision::exact : cpu::Precision::fast;
}

void check_precision(const std::string& device, const DeviceName& name, const BackendOptions& options) {
  if (!name.is_gpu() || !options.exact) return;
  throw Error("INVALID_OPTION", "dtype 'float32' is for CPU devices: " + device +
                                    " computes in 16 bits. Use 'auto', 'float16' or 'bfloat16'.");
}

}  // namespace

std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options) {
  const DeviceName name = parse_device(device);
  check_precision(device, name, options);
  switch (name.kind) {
    case DeviceKind::cuda:
      return cuda::make_backend({name.index, options.activation_type});
    case DeviceKind::emulated:
      return emulated::make_backend({name.index, options.activation_type});
    case DeviceKind::disk:
      if (options.offload_directory.empty()) throw Error("INVALID_OPTION", "Device disk needs an offloadDirectory.");
      return cpu::make_cpu_backend({device, precision_of(options), options.cache_type, options.offload_directory});
    case DeviceKind::cpu:
      break;
  }
  return cpu::make_cpu_backend({device, precision_of(options), options.cache_type});
}

PlannedMemory plan_memory(const std::string& device, const StageOutline& stage, const BackendOptions& options) {
  const DeviceName name = parse_device(device);
  check_precision(device, name, options);
  // The share of each weight that a token reads.
  std::vector<double> read(stage.weights.size(), 0);
  for (const Operator& op : stage.program.operators) {
    if (std::holds_alternative<Embedding>(op)) continue;
    const auto* grouped = std::get_if<GroupedLinear>(&op);
    for_each_weight(op, [&](WeightId id) {
      const auto experts = static_cast<double>(stage.weights[id].experts);
      const auto chosen = grouped ? static_cast<double>(stage.program.values[grouped->routing].width) / 2 : 0;
      read[id] = std::max(read[id], grouped ? std::min(1.0, chosen / experts) : 1.0);
    });
  }
  PlannedMemory planned;
  if (name.is_gpu()) {
    planned.count = gpu::stage_memory(stage);
    planned.page = gpu::page;
  } else {
    planned.count = cpu::stage_memory(stage, precision_of(options), options.cache_type);
  }
  for (size_t i = 0; i < read.size(); ++i) {
    if (read[i] == 0) continue;
    const uint64_t bytes = name.is_gpu() ? gpu::weight_memory(stage.weights[i]) : cpu::weight_memory(stage.weights[i]);
    planned.read += static_cast<uint64_t>(static_cast<double>(bytes) * read[i]);
  }
  return planned;
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
