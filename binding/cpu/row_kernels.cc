#include "cpu/row_kernels.h"

#include "cpu/features.h"
#include "cpu/vector_scalar.h"
// The vector type comes first.
#include "cpu/row_kernels_body.h"

namespace billfish::cpu {

const RowKernels& row_kernels() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return row_kernels_avx512;
    case InstructionSet::avx2:
      return row_kernels_avx2;
    case InstructionSet::scalar:
      break;
  }
#endif
  return kernels;
}

}  // namespace billfish::cpu
