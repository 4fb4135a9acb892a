// The matrix library of this target: cuBLAS on GPUs, none on emulated devices.
#pragma once
#include <cstddef>
#include <memory>

#include "platform/cublas_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class MatrixLibrary {
 public:
  virtual ~MatrixLibrary() = default;
  // Queues the product on the library's stream. Throws INTERNAL.
  virtual void multiply(const MatrixProduct& product) = 0;
};

// The library's workspace, used while its products run.
constexpr size_t matrix_library_bytes = size_t{24} << 20;

// Null if there is no library; cublas_library() says why. The workspace outlives it.
std::unique_ptr<MatrixLibrary> open_matrix_library(Stream& stream, void* workspace);

}  // namespace billfish::BILLFISH_TARGET
