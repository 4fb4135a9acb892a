// Device names to backends: the one place that knows every kind of device.
#pragma once
#include <memory>
#include <string>

#include "engine/backend.h"

namespace billfish {

struct TuneOptions;
struct TuneReport;

struct BackendOptions {
  bool exact = false;                  // fp32 throughout (dtype 'float32')
  DType cache_type = DType::f16;       // of keys and values on CPU devices
  DType activation_type = DType::f16;  // f16 or bf16: what devices compute with that compute in 16 bits
  std::string offload_directory = {};  // where device 'disk' keeps its weights
};

// cpu, cpu:0, cpu:1, ...; disk (the CPU, with weights in a file); cuda:0, ... (GPUs); emulated:0, ... (GPUs in the
// emulator, for tests). Throws DEVICE_NOT_FOUND naming the device and why there is no such one, INVALID_OPTION for
// options that it cannot fulfil.
std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options);

// Measures the GEMM of cuda:N or emulated:N for its cost model (cuda/tuning/tune.h); options.device does not count.
// Throws INVALID_OPTION for devices that have none.
TuneReport tune_gemm(const std::string& device, const TuneOptions& options);

}  // namespace billfish
