// A device's clock and what it reaches at best, for benchmarks.
#pragma once
#include <functional>
#include <memory>

#include "engine/backend.h"
#include "gemm/linear.h"
#include "runtime/matrix_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// `stream`: the one that the backend's operators are queued on, and `library` the one that it has for it, or null.
// `linear_of` tells what its weights hold.
std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(Stream& stream, MatrixLibrary* library,
                                                     std::function<const LinearWeight&(const Weight&)> linear_of);

}  // namespace billfish::BILLFISH_TARGET
