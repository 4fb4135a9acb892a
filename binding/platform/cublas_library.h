// cuBLAS, if installed. It is loaded on first use, so that nothing needs it to build or to start, and never unloaded:
// no static destructor calls it.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>

#include "engine/dtype.h"

namespace billfish {

// y[rows][out] = x[rows][in] * w[out][in]^T, all row-major, summed in fp32. `accumulate`: added to what y holds.
struct MatrixProduct {
  DType type = DType::f16;    // of x and w: f16 or bf16
  DType y_type = DType::f16;  // that, or f32
  int64_t rows = 0, out = 0, in = 0;
  const void* x = nullptr;
  const void* w = nullptr;
  void* y = nullptr;
  int64_t x_stride = 0, w_stride = 0, y_stride = 0;  // elements
  bool accumulate = false;
};

// The library functions that billfish calls; all present if `reason` is empty. Their types are those of cublas_v2.h,
// with void* for handles and streams and int for enumerations.
struct CublasLibrary {
  std::string path;    // what was loaded
  std::string reason;  // why there is none
  int version = 0;     // 10000 * major + 100 * minor + patch

  int (*create)(void** handle) = nullptr;
  int (*destroy)(void* handle) = nullptr;
  int (*set_stream)(void* handle, void* stream) = nullptr;
  int (*set_workspace)(void* handle, void* workspace, size_t bytes) = nullptr;
  int (*set_math_mode)(void* handle, int mode) = nullptr;
  int (*gemm)(void* handle, int transpose_a, int transpose_b, int m, int n, int k, const void* alpha, const void* a,
              int type_a, int stride_a, const void* b, int type_b, int stride_b, const void* beta, void* c, int type_c,
              int stride_c, int compute_type, int algorithm) = nullptr;
};

// Loads it from `wanted`, a path or a name for the dynamic linker. null or "": libcublas.so.13, .12 or .11; "off": not
// at all.
CublasLibrary load_cublas(const char* wanted);

// The library of BILLFISH_CUBLAS, loaded by the first call; from any thread.
const CublasLibrary& cublas_library();

// 130102 -> "13.1.2"
std::string cublas_version_text(int version);

// A handle, for one stream. The stream's device must be current in every call, and the workspace unshared while
// products run.
class CublasHandle {
 public:
  // Throws INTERNAL or OUT_OF_MEMORY, naming the call and cuBLAS's status.
  CublasHandle(const CublasLibrary& library, void* stream, void* workspace, size_t workspace_bytes);
  ~CublasHandle();
  CublasHandle(const CublasHandle&) = delete;
  CublasHandle& operator=(const CublasHandle&) = delete;

  // Queues a product on the stream. The same product gives the same bits in every run. Throws INTERNAL.
  void multiply(const MatrixProduct& product) const;

 private:
  const CublasLibrary& library_;
  void* handle_ = nullptr;
};

}  // namespace billfish
