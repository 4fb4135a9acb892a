import { addon } from './native/addon'

export interface CpuDevice {
  /** `'cpu'`; `'cpu:0'`, `'cpu:1'`, ... are further names for trying a split. */
  readonly device: 'cpu'
  readonly kind: 'cpu'
  /** Cores that this process may use. */
  readonly cores: number
  /** The instruction set of the kernels: scalar, avx2 or avx512. */
  readonly instructionSet: string
}

export interface CudaDevice {
  /** `'cuda:0'`, ... */
  readonly device: string
  readonly kind: 'cuda'
  readonly name: string
  readonly computeCapability: string
  readonly totalBytes: number
  readonly freeBytes: number
  readonly multiprocessors: number
  readonly l2Bytes: number
  readonly pciBusId: string
}

export interface CudaStatus {
  /** Whether this build of billfish has CUDA in it. */
  readonly compiled: boolean
  readonly available: boolean
  /** Why there is no CUDA device, in words; null where there is one. */
  readonly reason: string | null
  readonly driverVersion: string | null
  readonly runtimeVersion: string | null
}

export interface Devices {
  readonly devices: readonly (CpuDevice | CudaDevice)[]
  readonly cuda: CudaStatus
}

/** The devices that models can be placed on, and why there is no CUDA device where there is none. */
export function devices(): Devices {
  const { devices: cudaDevices, cuda, cpu } = addon().devices()
  return {
    devices: [
      { device: 'cpu', kind: 'cpu', ...cpu },
      ...cudaDevices.map((device) => ({ kind: 'cuda' as const, ...device })),
    ],
    cuda,
  }
}
