// The host's clock and what its memory reaches at best, for benchmarks.
#pragma once
#include <memory>

#include "engine/benchmark_hooks.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(ThreadPool& pool);

}  // namespace billfish::cpu
