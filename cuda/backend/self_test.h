// Checks that the device computes correctly with the kernels of this build.
#pragma once

namespace billfish {

namespace cuda {
// Launches kernels on device cuda:`index` and checks their results: one that reports the architecture it was compiled
// for, and a matrix product by every kind of GEMM, each after a kernel that it must wait for. Throws INTERNAL with
// CUDA's message if a call fails, or naming the kernel whose result is wrong.
void self_test(int index);
}  // namespace cuda

namespace emulated {
// The same kernels on emulated:`index`.
void self_test(int index);
}  // namespace emulated

}  // namespace billfish
