#include "runtime/cublas.h"

#include <dlfcn.h>

#include <map>
#include <mutex>

#include "runtime/check.h"
#include "runtime/stream_state.h"

namespace billfish::BILLFISH_TARGET {

namespace {

// The functions that are used, with their types of cublas_api.h.
struct Library {
  using Create = int (*)(void** handle);
  using SetStream = int (*)(void* handle, cudaStream_t stream);
  using GemmEx = int (*)(void* handle, int a_operation, int b_operation, int m, int n, int k, const void* alpha,
                         const void* a, int a_type, int a_stride, const void* b, int b_type, int b_stride,
                         const void* beta, void* c, int c_type, int c_stride, int compute_type, int algorithm);
  Create create = nullptr;
  SetStream set_stream = nullptr;
  GemmEx gemm = nullptr;

  Library() {
    void* library = nullptr;
    for (const char* name : {"libcublas.so.13", "libcublas.so.12", "libcublas.so"}) {
      if (library == nullptr) library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) return;
    create = reinterpret_cast<Create>(dlsym(library, "cublasCreate_v2"));
    set_stream = reinterpret_cast<SetStream>(dlsym(library, "cublasSetStream_v2"));
    gemm = reinterpret_cast<GemmEx>(dlsym(library, "cublasGemmEx"));
  }
  bool complete() const { return create != nullptr && set_stream != nullptr && gemm != nullptr; }
};

const Library& library() {
  static const Library loaded;
  return loaded;
}

}  // namespace

Cublas::Cublas(Device& device) {
  const OnDevice on_device(device);
  if (!library().complete() || library().create(&handle_) != 0) handle_ = nullptr;
}

Cublas& Cublas::at(Device& device) {
  static std::mutex mutex;
  static auto& made = *new std::map<int, Cublas*>;  // never destroyed
  const std::lock_guard lock(mutex);
  Cublas*& cublas = made[device.index()];
  if (cublas == nullptr) cublas = new Cublas(device);
  return *cublas;
}

bool Cublas::multiply(Stream& stream, DType type, int64_t rows, int64_t out, int64_t in, const void* x, const void* w,
                      void* y) {
  if (!present()) return false;
  const OnDevice on_device(stream.device());
  // Values of cublas_api.h and library_types.h.
  constexpr int transpose = 1, plain = 0, half = 2, bfloat16 = 14, compute_fp32 = 68, default_algorithm = -1;
  const int element = type == DType::f16 ? half : bfloat16;
  const float one = 1, zero = 0;
  if (library().set_stream(handle_, stream.state().stream) != 0) return false;
  // In cuBLAS's columns, y^T [out][rows] = w [out][in] * x^T [in][rows].
  return library().gemm(handle_, transpose, plain, static_cast<int>(out), static_cast<int>(rows), static_cast<int>(in),
                        &one, w, element, static_cast<int>(in), x, element, static_cast<int>(in), &zero, y, element,
                        static_cast<int>(out), compute_fp32, default_algorithm) == 0;
}

}  // namespace billfish::BILLFISH_TARGET
