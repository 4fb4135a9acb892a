// cuBLAS, if this machine has it: loaded when the program runs, so that nothing needs it to be built or to start.
#pragma once
#include <dlfcn.h>

#include <cstdint>

#include "engine/dtype.h"

namespace billfish {

class Cublas {
 public:
  Cublas() {
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (library_ == nullptr) library_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library_ == nullptr) return;
    create_ = reinterpret_cast<Create>(dlsym(library_, "cublasCreate_v2"));
    set_stream_ = reinterpret_cast<SetStream>(dlsym(library_, "cublasSetStream_v2"));
    gemm_ = reinterpret_cast<GemmEx>(dlsym(library_, "cublasGemmEx"));
    if (create_ == nullptr || set_stream_ == nullptr || gemm_ == nullptr || create_(&handle_) != 0) handle_ = nullptr;
  }
  Cublas(const Cublas&) = delete;

  bool present() const { return handle_ != nullptr; }

  // y[rows][out] = x[rows][in] * w[out][in]^T, all of `type` (f16 or bf16), fp32 sums. Returns false when cuBLAS
  // refuses.
  bool multiply(void* stream, DType type, int64_t rows, int64_t out, int64_t in, const void* x, const void* w,
                void* y) {
    constexpr int transpose = 1, plain = 0, half = 2, bfloat16 = 14, compute_fp32 = 68, default_algorithm = -1;
    const int element = type == DType::f16 ? half : bfloat16;
    const float one = 1, zero = 0;
    set_stream_(handle_, stream);
    // In cuBLAS's columns, y^T [out][rows] = w [out][in] * x^T [in][rows].
    return gemm_(handle_, transpose, plain, static_cast<int>(out), static_cast<int>(rows), static_cast<int>(in), &one,
                 w, element, static_cast<int>(in), x, element, static_cast<int>(in), &zero, y, element,
                 static_cast<int>(out), compute_fp32, default_algorithm) == 0;
  }

 private:
  using Create = int (*)(void**);
  using SetStream = int (*)(void*, void*);
  using GemmEx = int (*)(void*, int, int, int, int, int, const void*, const void*, int, int, const void*, int, int,
                         const void*, void*, int, int, int, int);
  void* library_ = nullptr;
  void* handle_ = nullptr;
  Create create_ = nullptr;
  SetStream set_stream_ = nullptr;
  GemmEx gemm_ = nullptr;
};

}  // namespace billfish
