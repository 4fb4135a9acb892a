import { addon } from './native/addon'
import type { CudaStatus, NativeCpu, NativeCudaDevice, NativeDevices, NativeEmulatedDevice } from './native/devices'
import { type AddonFile, loadAddon } from './native/loader'
import { optionsOf, readOptions } from './options/read-options'
import { flag } from './options/values'
import { asBillfishError } from './pipeline/runner'

export type { AddonFile, CudaStatus }

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
 * Only builds with BILLFISH_EMULATOR=on have it.
 */
export interface EmulatedDevice extends NativeEmulatedDevice {
  readonly kind: 'emulated'
}

export interface Devices {
  readonly devices: readonly (CpuDevice | CudaDevice | EmulatedDevice)[]
  readonly cuda: CudaStatus
  /** The native addon that is in use; `cuda.compiled` says whether CUDA is in it. */
  readonly addon: AddonFile
  /** Only where emulated devices were asked for. */
  readonly emulator?: EmulatorStatus
}

export interface EmulatorStatus {
  /** Whether this build of billfish has the emulator in it; published builds do not. */
  readonly compiled: boolean
  /** Why there are no emulated devices, in words; null where there are. */
  readonly reason: string | null
}

export interface DevicesOptions {
  /** The emulated devices, too. */
  readonly emulated?: boolean | undefined
}

const devicesOptions = optionsOf<DevicesOptions>('devices()', { emulated: flag() })

/**
 * The devices that models can be placed on, and why there is no CUDA device where there is none.
 *
 * The first call in a process wakes the CUDA driver, which can take a second on a machine with several GPUs: services
 * use {@link discoverDevices}.
 * @throws BillfishError INVALID_OPTION, also for what an environment variable says wrongly (BILLFISH_CPU_ISA)
 */
export function devices(options: DevicesOptions = {}): Devices {
  const given = readOptions(devicesOptions, options)
  try {
    return withKinds(addon().devices(), given)
  } catch (error) {
    throw asBillfishError(error)
  }
}

/** As {@link devices}, without holding the event loop. */
export async function discoverDevices(options: DevicesOptions = {}): Promise<Devices> {
  const given = readOptions(devicesOptions, options)
  try {
    return withKinds(await addon().discoverDevices(), given)
  } catch (error) {
    throw asBillfishError(error)
  }
}

/** The CUDA devices of this machine. */
export async function discoverCudaDevices(): Promise<CudaDevice[]> {
  return (await discoverDevices()).devices.filter((device) => device.kind === 'cuda')
}

function withKinds({ devices: cudaDevices, cuda, cpu }: NativeDevices, { emulated = false }: DevicesOptions): Devices {
  const emulatedDevices = emulated ? addon().emulatedDevices() : []
  return {
    devices: [
      { device: 'cpu', kind: 'cpu', ...cpu },
      ...cudaDevices.map((device) => ({ kind: 'cuda' as const, ...device })),
      ...emulatedDevices.map((device) => ({ kind: 'emulated' as const, ...device })),
    ],
    cuda,
    addon: loadAddon().file,
    ...(emulated && { emulator: { compiled: addon().noEmulator === null, reason: addon().noEmulator } }),
  }
}
