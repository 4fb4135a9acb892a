// The host's clock and peak memory bandwidth, for benchmarks.
#pragma once
#include <memory>

#include "engine/benchmark_hooks.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(ThreadPool& pool);

}  // namespace billfish::cpu
