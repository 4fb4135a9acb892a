// Every CPU kernel, one table for each instruction set: kernels_scalar.cc, kernels_avx2.cc and kernels_avx512.cc.
#pragma once
#include "cpu/attention_kernels.h"
#include "cpu/linear_kernels.h"
#include "cpu/row_kernels.h"

namespace billfish::cpu {

struct Kernels {
  AttentionKernel attention;
  RowKernels rows;
  QuantizedLinearKernels quantized_linear;
  MatrixKernels matrix;
};

// The table of an instruction set, by the names that all three sources give their functions.
#define BILLFISH_CPU_KERNELS                                                                                       \
  {                                                                                                                \
    attention::run_attention, rows::kernels,                                                                       \
        {quantized::quantize_segment,  quantized::gemv,      quantized::unpack_integers, quantized::unpack_scales, \
         quantized::multiply_integers, quantized::dequantize},                                                     \
        {matrix::gemv, matrix::transpose, matrix::multiply_floats},                                                \
  }

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

}  // namespace billfish::cpu
