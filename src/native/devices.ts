export interface NativeCpu {
  /** Cores that this process may use. */
  readonly cores: number
  /** The instruction set of the kernels: scalar, avx2 or avx512. */
  readonly instructionSet: string
}

export interface NativeCudaDevice {
  /** `'cuda:0'`, ... */
  readonly device: string
  readonly name: string
  readonly computeCapability: string
  /**
   * What the code that this build runs there was compiled for: `'9.0'`; lower than `computeCapability` where the build
   * has none for that. Null: it has none that runs there.
   */
  readonly codeArchitecture: string | null
  /** What is lost by that, and how to build instead; null where nothing is. */
  readonly codeNotice: string | null
  readonly totalBytes: number
  readonly freeBytes: number
  /** Whether this process has a CUDA context there already; what that takes is not in `freeBytes` then. */
  readonly hasContext: boolean
  /** Why nothing can be allocated there, in CUDA's words, with `freeBytes` 0; null where all is well. */
  readonly problem: string | null
  readonly multiprocessors: number
  readonly l2Bytes: number
  readonly pciBusId: string
}

export interface NativeEmulatedDevice {
  /** `'emulated:0'`, ... */
  readonly device: string
  readonly computeCapability: string
  /** As of a {@link NativeCudaDevice}; BILLFISH_EMULATED_CODE=80 makes it `'8.0'`. */
  readonly codeArchitecture: string | null
  readonly codeNotice: string | null
  /** What the environment variable BILLFISH_EMULATED_MEMORY says, else 4 GiB. */
  readonly totalBytes: number
  readonly freeBytes: number
  readonly multiprocessors: number
}

export interface CudaStatus {
  /** Whether this build of billfish has CUDA in it. */
  readonly compiled: boolean
  readonly available: boolean
  /** Why there is no CUDA device, in words; null where there is one. */
  readonly reason: string | null
  readonly driverVersion: string | null
  readonly runtimeVersion: string | null
  /** NVIDIA's library of matrix products, which makes long prompts faster; `reason`: why it is not used. */
  readonly cublas: CudaLibrary
  /**
   * NVIDIA's library of collectives, for ranks (tensorParallelSize) on GPUs that do not reach each other's memory;
   * `reason`: why there is none.
   */
  readonly nccl: CudaLibrary
}

/** A library that is used where it is installed. */
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
