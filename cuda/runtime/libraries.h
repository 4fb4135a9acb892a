// The vendor's libraries of this target, and their view of streams and devices: NCCL and cuBLAS on GPUs. Emulated
// devices have none, except for a fake NCCL that tests bring (BILLFISH_NCCL names it).
#pragma once
#include <cstddef>
#include <memory>

#include "platform/cublas_library.h"
#include "platform/nccl_library.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

// --- Collectives.

// NCCL for devices of this target; its `reason` says why there is none.
const NcclLibrary& collective_library();

// The stream as the library takes it, valid as long as the stream.
void* library_stream(Stream& stream);

// The longest sum, in elements, to try before the first step: on GPUs that of a large model's full step.
extern const size_t max_tried_sum;

// Makes the stream's device current on the calling thread, as the library requires.
void make_current(const Stream& stream);

// --- Matrix products.

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
