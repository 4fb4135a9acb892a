// The Backend on the host: fp32 activations, weights packed for linear.h, one shared thread pool.
#pragma once
#include <memory>
#include <string>

#include "cpu/linear.h"
#include "engine/backend.h"
#include "engine/benchmark_hooks.h"
#include "engine/thread_pool.h"

namespace billfish::cpu {

struct CpuOptions {
  std::string device = "cpu";  // cpu, cpu:0, cpu:1, ..., disk
  Precision precision = Precision::fast;
  DType cache_type = DType::f16;  // of keys and values
  // The directory for weights kept in a file; empty: in memory. KV cache and buffers are always in memory.
  std::string weights_directory = {};
};

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

// The host's clock and peak memory bandwidth, for benchmarks.
std::unique_ptr<BenchmarkHooks> make_benchmark_hooks(ThreadPool& pool);

}  // namespace billfish::cpu
