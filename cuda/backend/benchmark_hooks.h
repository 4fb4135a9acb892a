// A device's clock and peak rates, for benchmarks.
#pragma once
#include <functional>
#include <memory>

#include "engine/backend.h"
#include "gemm/linear_weight.h"
#include "runtime/libraries.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// `stream`: the backend's stream; `library`: its matrix library, or null; `linear_of`: maps its weights to linears.
std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(Stream& stream, MatrixLibrary* library,
                                                     std::function<const LinearWeight&(const Weight&)> linear_of);

}  // namespace billfish::BILLFISH_TARGET
