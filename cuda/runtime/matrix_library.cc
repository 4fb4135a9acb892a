#include "runtime/matrix_library.h"

#include "runtime/check.h"
#include "runtime/stream_state.h"

namespace billfish::BILLFISH_TARGET {

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
