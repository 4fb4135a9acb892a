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

extern const Kernels kernels_scalar;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

}  // namespace billfish::cpu
