#if defined(__x86_64__)

#include "cpu/integers_avx2.h"
// The vector types come first.
#include "cpu/quantized_linear_body.h"

namespace billfish::cpu {

const QuantizedLinearKernels quantized_linear_avx2 = {quantize_segment_avx2, gemv,      unpack_integers, unpack_scales,
                                                      multiply_integers,     dequantize};

}  // namespace billfish::cpu

#endif
