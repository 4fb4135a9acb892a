// What the sources of kernels say instead of nvcc's keywords. Here: their meaning on a GPU; the emulator has its own.
#pragma once

#if !defined(BILLFISH_TARGET)
#error "BILLFISH_TARGET names the namespace of this compilation: cuda, or emulated. The build sets it."
#endif

#define DEVICE __device__ __forceinline__
#define HOST_DEVICE __host__ __device__ __forceinline__
#define UNROLL _Pragma("unroll")
