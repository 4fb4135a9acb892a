// cuBLAS, where this machine has it: loaded when it is first asked for, so that nothing needs it to be built or to
// start.
#pragma once
#include <cstdint>

#include "engine/dtype.h"
#include "runtime/device.h"
#include "runtime/stream.h"

namespace billfish::BILLFISH_TARGET {

class Cublas {
 public:
  // The device's, made when it is first asked for, never destroyed. For one thread at a time.
  static Cublas& at(Device& device);

  // False where there is no libcublas that works with this driver, and in the emulator.
  bool present() const { return handle_ != nullptr; }

  // Queues y[rows][out] = x[rows][in] * w[out][in]^T, all of `type` (f16 or bf16) without gaps, with fp32 sums. Returns
  // false when cuBLAS refuses or is not present. May be captured, once it has run on the device.
  bool multiply(Stream& stream, DType type, int64_t rows, int64_t out, int64_t in, const void* x, const void* w,
                void* y);

 private:
  explicit Cublas(Device& device);
  void* handle_ = nullptr;
};

}  // namespace billfish::BILLFISH_TARGET
