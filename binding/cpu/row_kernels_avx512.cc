#if defined(__x86_64__)

#include "cpu/vector_avx512.h"
// The vector type comes first.
#include "cpu/row_kernels_body.h"

namespace billfish::cpu {

const RowKernels row_kernels_avx512 = kernels;

}  // namespace billfish::cpu

#endif
