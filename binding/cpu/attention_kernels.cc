#include "cpu/attention_kernels.h"

#include "cpu/features.h"
#include "cpu/vector_scalar.h"
// The vector type comes first.
#include "cpu/attention_kernels_body.h"

namespace billfish::cpu {

AttentionKernel attention_kernel() {
#if defined(__x86_64__)
  switch (instruction_set()) {
    case InstructionSet::avx512:
      return attention_avx512;
    case InstructionSet::avx2:
      return attention_avx2;
    case InstructionSet::scalar:
      break;
  }
#endif
  return run_attention;
}

}  // namespace billfish::cpu
