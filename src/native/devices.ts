export interface NativeCpu {
  /** Cores available to this process. */
  readonly cores: number
  /** Instruction set of the kernels: scalar, avx2, avx512 or avx512_bf16. */
  readonly instructionSet: string
}

export interface NativeCudaDevice {
  /** `'cuda:0'`, ... */
  readonly device: string
  readonly name: string
  readonly computeCapability: string
  /**
   * The architecture that this build's code for the device was compiled for, such as `'9.0'`; lower than
   * `computeCapability` if the build has none for that, null if it has none that runs there.
   */
  readonly codeArchitecture: string | null
  /** What performance is lost by that, and how to build instead; null if nothing is. */
  readonly codeNotice: string | null
  readonly totalBytes: number
  readonly freeBytes: number
  /** Whether this process already has a CUDA context there, which `freeBytes` then does not include. */
  readonly hasContext: boolean
  /** Why nothing can be allocated, in the words of CUDA, with `freeBytes` 0; null if all is well. */
  readonly problem: string | null
  readonly multiprocessors: number
  readonly l2Bytes: number
  readonly pciBusId: string
}

export interface NativeEmulatedDevice {
  /** `'emulated:0'`, ... */
  readonly device: string
  readonly computeCapability: string
  /** As for a CUDA device; BILLFISH_EMULATED_CODE=80 makes it `'8.0'`. */
  readonly codeArchitecture: string | null
  readonly codeNotice: string | null
  /** BILLFISH_EMULATED_MEMORY, or 4 GiB. */
  readonly totalBytes: number
  readonly freeBytes: number
  readonly multiprocessors: number
}

/** The state of CUDA and of NVIDIA's libraries in this process. */
export interface CudaStatus {
  /** Whether this build of billfish includes CUDA. */
  readonly compiled: boolean
  readonly available: boolean
  /** Why there is no CUDA device; null if there is one. */
  readonly reason: string | null
  readonly driverVersion: string | null
  readonly runtimeVersion: string | null
  /** cuBLAS, which speeds up long prompts. */
  readonly cublas: CudaLibrary
  /** NCCL, for ranks (tensorParallelSize) on GPUs without peer access to each other. */
  readonly nccl: CudaLibrary
}

/** An optional library. */
export interface CudaLibrary {
  readonly library: string | null
  readonly version: string | null
  readonly reason: string | null
}

export interface NativeDevices {
  readonly cpu: NativeCpu
  readonly devices: readonly NativeCudaDevice[]
  readonly cuda: CudaStatus
}

/**
 * What computes the stages of a device: the CPU, from its memory (`cpu:N`) or the disk (`disk`), or a GPU (`cuda:N`),
 * which may be an emulated one (`emulated:N`).
 */
export function deviceKind(device: string): 'cpu' | 'gpu' {
  return /^(cuda|emulated):/.test(device) ? 'gpu' : 'cpu'
}
