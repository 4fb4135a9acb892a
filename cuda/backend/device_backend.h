// What the engine calls: the Backend on NVIDIA GPUs (cuda:N) and on emulated devices (emulated:N), and a self-test.
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

// Checks that device cuda:`index` computes correctly with the kernels of this build: one that reports the architecture
// it was compiled for, and a matrix product by every kind of GEMM, each after a kernel that it must wait for. Throws
// INTERNAL with CUDA's message if a call fails, or naming the kernel whose result is wrong.
void self_test(int index);
}  // namespace cuda

namespace emulated {
std::unique_ptr<Backend> make_backend(const DeviceBackendOptions& options);
// The same kernels on emulated:`index`.
void self_test(int index);
}  // namespace emulated

}  // namespace billfish
