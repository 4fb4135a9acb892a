// Picks the code that a GPU runs among the architectures that kernels were compiled for.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace billfish {

// The architecture (80, 90, ...: __CUDA_ARCH__ / 10) whose code a GPU of this compute capability (10 * major + minor)
// runs, out of a list as CMAKE_CUDA_ARCHITECTURES has it, separated by spaces or semicolons: "80-real 90". Machine code
// (XY, XY-real) runs on the same major version from its minor version on; PTX (XY, XY-virtual) is compiled by the
// driver for everything later, but only where no machine code fits, and does no more than XY can. 0: none runs there.
// Nothing when the list has words that CMake resolves itself (native, all).
std::optional<int> code_architecture(std::string_view compiled, int compute_capability);

// What a user should know about running code for `code` on a GPU of `compute_capability`; empty if nothing is lost.
std::string explain_code_architecture(int code, int compute_capability);

}  // namespace billfish
