#include "padding/products.h"

#include "cpu/features.h"
#include "padding/products_body.h"

namespace billfish::padding {

const ProductKernels& product_kernels() {
#if defined(__x86_64__)
  if (cpu::instruction_set() != cpu::InstructionSet::scalar) return product_kernels_avx2;
#endif
  return kernels;
}

}  // namespace billfish::padding
