// Launching a kernel. A kernel is a struct: its members are its parameters, max_threads its launch bound, operator()
// what each thread does.
//
//   struct Scale {
//     static constexpr int max_threads = 256;
//     Global<float> values; float factor; uint32_t count;
//     DEVICE void operator()() const { ... }
//   };
//   launch(stream, {.grid = {blocks}, .block = {256}}, Scale{values, factor, count});
//
// An optional `static constexpr int min_blocks` is the second launch bound: blocks a multiprocessor must have room for.
#pragma once
#include <cuda_runtime.h>

#include <atomic>

#include "runtime/cuda_calls.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

template <class Kernel>
constexpr int min_blocks_of() {
  if constexpr (requires { Kernel::min_blocks; }) {
    return Kernel::min_blocks;
  } else {
    return 1;
  }
}

template <class Kernel>
__global__ void __launch_bounds__(Kernel::max_threads, min_blocks_of<Kernel>())
    run_kernel(const __grid_constant__ Kernel kernel) {
  kernel();
}

// More than 48 KiB of shared memory must be requested once per kernel and device.
template <class Kernel>
void allow_shared_memory(const Device& device, uint32_t bytes) {
  constexpr uint32_t free_to_use = 48 * 1024, max_devices = 64;
  if (bytes <= free_to_use) return;
  static std::atomic<uint32_t> allowed[max_devices];
  std::atomic<uint32_t>& largest = allowed[static_cast<uint32_t>(device.index()) % max_devices];
  if (largest.load(std::memory_order_relaxed) >= bytes) return;
  check(cudaFuncSetAttribute(run_kernel<Kernel>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(device.properties().shared_bytes_per_block)),
        device, "cudaFuncSetAttribute");
  largest.store(device.properties().shared_bytes_per_block, std::memory_order_relaxed);
}

template <class Kernel>
void launch(Stream& stream, const LaunchShape& shape, const Kernel& kernel) {
  const OnDevice on_device(stream.device());
  allow_shared_memory<Kernel>(stream.device(), shape.shared_bytes);
  cudaLaunchConfig_t config = {};
  config.gridDim = {shape.grid.x, shape.grid.y, shape.grid.z};
  config.blockDim = {shape.block.x, shape.block.y, shape.block.z};
  config.dynamicSmemBytes = shape.shared_bytes;
  config.stream = stream.state().stream;
  cudaLaunchAttribute attributes[2] = {};
  config.attrs = attributes;
  if (shape.co_resident) {
    attributes[config.numAttrs].id = cudaLaunchAttributeCooperative;
    attributes[config.numAttrs++].val.cooperative = 1;
  }
  if (shape.programmatic && stream.overlaps_grids()) {
    attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[config.numAttrs++].val.programmaticStreamSerializationAllowed = 1;
  }
  check(cudaLaunchKernelEx(&config, run_kernel<Kernel>, kernel), stream.device(), "a kernel launch");
}

}  // namespace billfish::BILLFISH_TARGET
