// Does the device run kernels that this build contains?
#pragma once

namespace billfish {

namespace cuda {
// Launches a kernel on device cuda:`index` and compares what it wrote. Throws INTERNAL with CUDA's text when a call
// fails (among them cudaErrorNoKernelImageForDevice: not compiled for this architecture) or the result is wrong.
void self_test(int index);
}  // namespace cuda

namespace emulated {
// The same kernel on emulated:`index`.
void self_test(int index);
}  // namespace emulated

}  // namespace billfish
