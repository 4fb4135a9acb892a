#include "runtime/libraries.h"

#include "runtime/cuda_calls.h"

namespace billfish::BILLFISH_TARGET {

const size_t max_tried_sum = 512 * 8192;

const NcclLibrary& collective_library() { return nccl_library(); }

void* library_stream(Stream& stream) { return stream.state().stream; }

void make_current(const Stream& stream) { const OnDevice on_device(stream.device()); }

namespace {

class Cublas final : public MatrixLibrary {
 public:
  Cublas(Stream& stream, void* workspace) : device_(stream.device()) {
    const OnDevice on_device(device_);
    handle_ = std::make_unique<CublasHandle>(cublas_library(), stream.state().stream, workspace, matrix_library_bytes);
  }
  ~Cublas() override { cudaSetDevice(device_.index()); }

  void multiply(const MatrixProduct& product) override {
    const OnDevice on_device(device_);
    handle_->multiply(product);
  }

 private:
  const Device& device_;
  std::unique_ptr<CublasHandle> handle_;
};

}  // namespace

std::unique_ptr<MatrixLibrary> open_matrix_library(Stream& stream, void* workspace) {
  if (!cublas_library().reason.empty()) return nullptr;
  return std::make_unique<Cublas>(stream, workspace);
}

}  // namespace billfish::BILLFISH_TARGET
