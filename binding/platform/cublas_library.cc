#include "platform/cublas_library.h"

#include <dlfcn.h>

#include <cstdlib>

#include "engine/error.h"

namespace billfish {

namespace {

// Looks up `function` in the library; false, with the reason, if it is missing.
template <class Function>
bool find(void* handle, const char* name, CublasLibrary& library, Function& function) {
  function = reinterpret_cast<Function>(dlsym(handle, name));
  if (function == nullptr) library.reason = library.path + " has no function " + name + ".";
  return function != nullptr;
}

const char* status_text(int status) {
  switch (status) {
    case 1:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case 3:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case 7:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case 8:
      return "CUBLAS_STATUS_ARCH_MISMATCH";
    case 11:
      return "CUBLAS_STATUS_MAPPING_ERROR";
    case 13:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case 14:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
    case 15:
      return "CUBLAS_STATUS_NOT_SUPPORTED";
    default:
      return "an unknown status";
  }
}

void check(int status, const char* call, const std::string& what = "") {
  if (status == 0) return;
  constexpr int allocation_failed = 3;
  throw Error(status == allocation_failed ? "OUT_OF_MEMORY" : "INTERNAL",
              std::string("cuBLAS: ") + call + what + " failed with " + status_text(status) + " (" +
                  std::to_string(status) + "). BILLFISH_CUBLAS=off does without cuBLAS.");
}

int data_type(DType type) {  // cudaDataType
  return type == DType::f16 ? 2 : type == DType::bf16 ? 14 : 0;
}

}  // namespace

CublasLibrary load_cublas(const char* wanted) {
  CublasLibrary library;
  const std::string name = wanted == nullptr ? "" : wanted;
  if (name == "off") {
    library.reason = "BILLFISH_CUBLAS is 'off'.";
    return library;
  }
  void* handle = nullptr;
  if (!name.empty()) {
    library.path = name;
    handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) {
      library.reason = "BILLFISH_CUBLAS names '" + name + "', which cannot be loaded: " + dlerror() + ".";
    }
  } else {
    for (const char* usual : {"libcublas.so.13", "libcublas.so.12", "libcublas.so.11"}) {
      if (handle != nullptr) break;
      library.path = usual;
      handle = dlopen(usual, RTLD_NOW | RTLD_LOCAL);
    }
    if (handle == nullptr) {
      library.reason =
          "neither libcublas.so.13 nor .12 nor .11 was found. Install cuBLAS, put its folder into LD_LIBRARY_PATH, or "
          "name its file in BILLFISH_CUBLAS.";
    }
  }
  if (handle == nullptr) return library;
  int (*get_version)(int, int*) = nullptr;
  if (find(handle, "cublasCreate_v2", library, library.create) &&
      find(handle, "cublasDestroy_v2", library, library.destroy) &&
      find(handle, "cublasSetStream_v2", library, library.set_stream) &&
      find(handle, "cublasSetWorkspace_v2", library, library.set_workspace) &&
      find(handle, "cublasSetMathMode", library, library.set_math_mode) &&
      find(handle, "cublasGemmEx", library, library.gemm) && find(handle, "cublasGetProperty", library, get_version)) {
    int parts[3] = {};
    for (int i = 0; i < 3; ++i) get_version(i, &parts[i]);
    library.version = 10000 * parts[0] + 100 * parts[1] + parts[2];
  }
  return library;
}

const CublasLibrary& cublas_library() {
  static const CublasLibrary& library = *new CublasLibrary(load_cublas(std::getenv("BILLFISH_CUBLAS")));
  return library;
}

std::string cublas_version_text(int version) {
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

CublasHandle::CublasHandle(const CublasLibrary& library, void* stream, void* workspace, size_t workspace_bytes)
    : library_(library) {
  // Sums stay in fp32 for split-K, too.
  constexpr int disallow_reduced_precision_reduction = 16;
  check(library_.create(&handle_), "cublasCreate");
  try {
    check(library_.set_stream(handle_, stream), "cublasSetStream");
    check(library_.set_workspace(handle_, workspace, workspace_bytes), "cublasSetWorkspace");
    check(library_.set_math_mode(handle_, disallow_reduced_precision_reduction), "cublasSetMathMode");
  } catch (...) {
    library_.destroy(handle_);
    throw;
  }
}

CublasHandle::~CublasHandle() { library_.destroy(handle_); }

void CublasHandle::multiply(const MatrixProduct& product) const {
  constexpr int plain = 0, transposed = 1, compute_fp32 = 68, default_algorithm = -1;
  const float one = 1, addend = product.accumulate ? 1 : 0;
  const int type = data_type(product.type);
  const auto narrow = [](int64_t value) { return static_cast<int>(value); };
  // cuBLAS is column-major: our [rows][out] is its [out][rows], and our w, [out][in], its w^T.
  check(library_.gemm(handle_, transposed, plain, narrow(product.out), narrow(product.rows), narrow(product.in), &one,
                      product.w, type, narrow(product.w_stride), product.x, type, narrow(product.x_stride), &addend,
                      product.y, data_type(product.y_type), narrow(product.y_stride), compute_fp32, default_algorithm),
        "cublasGemmEx",
        " of " + std::to_string(product.rows) + " x " + std::to_string(product.in) + " by " +
            std::to_string(product.in) + " x " + std::to_string(product.out));
}

}  // namespace billfish
