#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "cuda/runtime/self_test.h"
#include "engine/error.h"

namespace billfish::cuda {

// A multiplicative hash: every thread writes a value that only its own index gives.
__host__ __device__ static uint32_t expected_value(uint32_t index) { return index * 2654435761u ^ index >> 7; }

__global__ static void write_expected_values(uint32_t* out, uint32_t count) {
  const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index < count) out[index] = expected_value(index);
}

static void check(cudaError_t error, int index, const char* what) {
  if (error == cudaSuccess) return;
  throw Error("INTERNAL", "self-test of cuda:" + std::to_string(index) + ": " + what + " failed with " +
                              cudaGetErrorName(error) + ": " + cudaGetErrorString(error));
}

void self_test(int index) {
  constexpr uint32_t count = 100'003, threads = 256;
  int previous = 0;
  check(cudaGetDevice(&previous), index, "cudaGetDevice");
  check(cudaSetDevice(index), index, "cudaSetDevice");
  struct RestoreDevice {
    int device;
    ~RestoreDevice() { cudaSetDevice(device); }
  } restore{previous};

  uint32_t* memory = nullptr;
  check(cudaMalloc(&memory, count * sizeof(uint32_t)), index, "cudaMalloc");
  const std::unique_ptr<uint32_t, cudaError_t (*)(void*)> owner(memory, cudaFree);
  write_expected_values<<<(count + threads - 1) / threads, threads>>>(memory, count);
  check(cudaGetLastError(), index, "the launch");
  std::vector<uint32_t> values(count);
  check(cudaMemcpy(values.data(), memory, count * sizeof(uint32_t), cudaMemcpyDeviceToHost), index, "cudaMemcpy");
  for (uint32_t i = 0; i < count; ++i) {
    if (values[i] != expected_value(i)) {
      throw Error("INTERNAL", "self-test of cuda:" + std::to_string(index) + ": thread " + std::to_string(i) +
                                  " wrote " + std::to_string(values[i]) + " instead of " +
                                  std::to_string(expected_value(i)));
    }
  }
}

}  // namespace billfish::cuda
