// The machine's own library of matrix products: cuBLAS on GPUs; emulated devices have none.
#pragma once
#include <cstddef>
#include <memory>

#include "platform/cublas_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class MatrixLibrary {
 public:
  virtual ~MatrixLibrary() = default;
  // Queued on the stream that the library was opened for. Throws INTERNAL.
  virtual void multiply(const MatrixProduct& product) = 0;
};

// What the library wants as a workspace of its own (while its products run; the same bytes for all of a stream).
constexpr size_t matrix_library_bytes = size_t{24} << 20;

// Null where there is none; cublas_library() says why. The workspace outlives it.
std::unique_ptr<MatrixLibrary> open_matrix_library(Stream& stream, void* workspace);

}  // namespace billfish::BILLFISH_TARGET
