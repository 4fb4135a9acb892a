#include "cpu/kernels.h"

#include "cpu/features.h"

namespace billfish::cpu {

static const Kernels& kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return kernels_avx512;
    case InstructionSet::avx2:
      return kernels_avx2;
    case InstructionSet::scalar:
      break;
  }
#endif
  return kernels_scalar;
}

AttentionKernel attention_kernel() { return kernels().attention; }
const RowKernels& row_kernels() { return kernels().rows; }
const QuantizedLinearKernels& quantized_linear_kernels() { return kernels().quantized_linear; }
const MatrixKernels& matrix_kernels() { return kernels().matrix; }

}  // namespace billfish::cpu
