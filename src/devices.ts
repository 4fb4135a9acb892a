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

/**
 * A CUDA device in the emulator, which runs the CUDA kernels' own sources on the CPU: for tests of what is meant for
 * GPUs, thousands of times slower than one. It must be named (`deviceMap: 'emulated:0'`); billfish never chooses it.
 */
export interface EmulatedDevice {
  /** `'emulated:0'`, ... */
  readonly device: string
  readonly kind: 'emulated'
  readonly computeCapability: string
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
  readonly cublas: {
    readonly library: string | null
    readonly version: string | null
    readonly reason: string | null
  }
}

export interface Devices {
  readonly devices: readonly (CpuDevice | CudaDevice | EmulatedDevice)[]
  readonly cuda: CudaStatus
}

/**
 * The devices that models can be placed on, and why there is no CUDA device where there is none.
 * @param options `emulated`: the emulated devices, too
 */
export function devices({ emulated = false }: { readonly emulated?: boolean } = {}): Devices {
  const { devices: cudaDevices, cuda, cpu } = addon().devices()
  const emulatedDevices = emulated ? addon().emulatedDevices() : []
  return {
    devices: [
      { device: 'cpu', kind: 'cpu', ...cpu },
      ...cudaDevices.map((device) => ({ kind: 'cuda' as const, ...device })),
      ...emulatedDevices.map((device) => ({ kind: 'emulated' as const, ...device })),
    ],
    cuda,
  }
}
