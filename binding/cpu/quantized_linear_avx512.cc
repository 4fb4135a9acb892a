#if defined(__x86_64__)

#include "cpu/integers_avx512.h"
// The vector types come first.
#include "cpu/quantized_linear_body.h"

namespace billfish::cpu {

const QuantizedLinearKernels quantized_linear_avx512 = {
    quantize_segment_avx512, gemv, unpack_integers, unpack_scales, multiply_integers, dequantize};

}  // namespace billfish::cpu

#endif
