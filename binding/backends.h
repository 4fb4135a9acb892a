// Device names to backends: the one place that knows every kind of device.
#pragma once
#include <memory>
#include <string>

#include "engine/backend.h"
#include "engine/stage_allocations.h"

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

// What a stage would hold on a device.
struct PlannedMemory {
  MemoryCount count;  // of its allocations
  uint64_t page = 1;  // for their sum the device gives whole pages of so many bytes
  uint64_t read = 0;  // of weights, to decode a token: all but those that only embeddings use, which read a row of them
};

// Counts with what the backend allocates by, whether or not this build has that backend and this machine such a device.
// Throws DEVICE_NOT_FOUND for what is no device's name, INVALID_OPTION for options that it cannot fulfil,
// UNSUPPORTED_MODEL for more than max_bytes.
PlannedMemory plan_memory(const std::string& device, const StageOutline& stage, const BackendOptions& options);

// Measures the GEMM of cuda:N or emulated:N for its cost model (cuda/tuning/tune.h); options.device is ignored. Throws
// INVALID_OPTION for other devices.
TuneReport tune_gemm(const std::string& device, const TuneOptions& options);

}  // namespace billfish
