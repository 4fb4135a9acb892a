import { addon } from './native/addon'
import type { CudaStatus, NativeCpu, NativeCudaDevice, NativeEmulatedDevice } from './native/devices'

export type { CudaStatus }

export interface CpuDevice extends NativeCpu {
  /** `'cpu'`; `'cpu:0'`, `'cpu:1'`, ... are further names for trying a split. */
  readonly device: 'cpu'
  readonly kind: 'cpu'
}

export interface CudaDevice extends NativeCudaDevice {
  readonly kind: 'cuda'
}

/**
 * A CUDA device in the emulator, which runs the CUDA kernels' own sources on the CPU: for tests of what is meant for
 * GPUs, thousands of times slower than one. It must be named (`deviceMap: 'emulated:0'`); billfish never chooses it.
 */
export interface EmulatedDevice extends NativeEmulatedDevice {
  readonly kind: 'emulated'
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
