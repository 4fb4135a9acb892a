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
  DType activation_type = DType::f16;  // f16 or bf16: the type of devices that compute in 16 bits
  std::string offload_directory = {};  // directory of device 'disk'
};

// cpu, cpu:0, cpu:1, ...; disk (the CPU, with weights in a file); cuda:0, ... (GPUs); emulated:0, ... (GPUs in the
// emulator, for tests). Throws DEVICE_NOT_FOUND naming the device and the reason, INVALID_OPTION for unsupported
// options.
std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options);

// Measures the GEMM of cuda:N or emulated:N for its cost model (cuda/tuning/tune.h); options.device is ignored. Throws
// INVALID_OPTION for other devices.
TuneReport tune_gemm(const std::string& device, const TuneOptions& options);

}  // namespace billfish
