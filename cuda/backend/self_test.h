// Does the device compute right with the kernels that this build contains?
#pragma once

namespace billfish {

namespace cuda {
// Launches kernels on device cuda:`index` and compares what they write: one that says which architecture it was
// compiled for, and a product of matrices of every kind that linears choose among, each behind a kernel that it must
// wait for. Throws INTERNAL with CUDA's text when a call fails, or naming the kernel whose result is wrong.
void self_test(int index);
}  // namespace cuda

namespace emulated {
// The same kernels on emulated:`index`.
void self_test(int index);
}  // namespace emulated

}  // namespace billfish
