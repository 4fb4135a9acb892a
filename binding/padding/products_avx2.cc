#if defined(__x86_64__)

#include "padding/products_body.h"

namespace billfish::padding {

const ProductKernels product_kernels_avx2 = kernels;

}  // namespace billfish::padding

#endif
