// The Backend on NVIDIA GPUs (cuda:N) and on emulated devices (emulated:N).
#pragma once
#include <memory>

#include "engine/backend.h"

namespace billfish {

struct DeviceBackendOptions {
  int index = 0;
  DType activation_type = DType::f16;  // of activations, 16-bit weights and the KV cache: f16 or bf16
};

namespace cuda {
// Throws DEVICE_NOT_FOUND with the reason.
std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options);
}  // namespace cuda

namespace emulated {
std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options);
}  // namespace emulated

}  // namespace billfish
