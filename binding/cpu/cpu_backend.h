// The Backend on the host: fp32 activations, weights packed for linear.h, one shared thread pool.
#pragma once
#include <memory>
#include <string>

#include "cpu/linear.h"
#include "engine/backend.h"

namespace billfish::cpu {

struct CpuOptions {
  std::string device = "cpu";  // cpu, cpu:0, cpu:1, ..., disk
  Precision precision = Precision::fast;
  DType cache_type = DType::f16;  // of keys and values
  // The directory for weights kept in a file; empty: in memory. KV cache and buffers are always in memory.
  std::string weights_directory = {};
};

std::unique_ptr<Backend> make_cpu_backend(const CpuOptions& options);

}  // namespace billfish::cpu
