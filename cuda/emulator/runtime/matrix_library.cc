#include "runtime/matrix_library.h"

namespace billfish::BILLFISH_TARGET {

std::unique_ptr<MatrixLibrary> open_matrix_library(Stream&, void*) { return nullptr; }

}  // namespace billfish::BILLFISH_TARGET
