import { asBillfishError } from './common/errors'
import { addon } from './native/addon'
import type {
  CudaLibrary,
  CudaStatus,
  NativeCpu,
  NativeCudaDevice,
  NativeDevices,
  NativeEmulatedDevice,
} from './native/devices'
import { type AddonFile, loadAddon } from './native/loader'
import { optionsOf, readOptions } from './options/read-options'
import { flag } from './options/values'

export type { AddonFile, CudaLibrary, CudaStatus }

/** The host's processor. */
export interface CpuDevice extends NativeCpu {
  /** `'cpu'`; `'cpu:0'`, `'cpu:1'`, ... are aliases for trying out a split. */
  readonly device: 'cpu'
  readonly kind: 'cpu'
}

/** An NVIDIA GPU that the driver lists. */
export interface CudaDevice extends NativeCudaDevice {
  readonly kind: 'cuda'
}

/**
 * A CUDA device of the emulator, which runs the sources of the CUDA kernels on the CPU: for tests of GPU code,
 * thousands of times slower than a GPU. Never chosen automatically: name it (`deviceMap: 'emulated:0'`). Only in builds
 * with BILLFISH_EMULATOR=on.
 */
export interface EmulatedDevice extends NativeEmulatedDevice {
  readonly kind: 'emulated'
}

/** What {@link devices} finds. */
export interface Devices {
  /** The CPU first, then CUDA devices by index, then emulated ones if asked for. */
  readonly devices: readonly (CpuDevice | CudaDevice | EmulatedDevice)[]
  /** Whether CUDA can be used, and if not, why. */
  readonly cuda: CudaStatus
  /** The native addon in use; `cuda.compiled` says whether it contains CUDA. */
  readonly addon: AddonFile
  /** Present if emulated devices were asked for. */
  readonly emulator?: EmulatorStatus
}

/** Whether emulated devices can be used. */
export interface EmulatorStatus {
  /** Whether this build of billfish includes the emulator; published builds do not. */
  readonly compiled: boolean
  /** Why there are no emulated devices; null if there are. */
  readonly reason: string | null
}

/** Options of {@link devices} and {@link discoverDevices}. */
export interface DevicesOptions {
  /** Lists emulated devices too. Default false. */
  readonly emulated?: boolean | undefined
}

const devicesOptions = optionsOf<DevicesOptions>('devices()', { emulated: flag() })

/**
 * Lists the devices that models can be placed on; if there is no CUDA device, `cuda.reason` says why.
 *
 * The first call in a process initializes the CUDA driver, which can block for a second on a machine with several GPUs:
 * services should use {@link discoverDevices}.
 * @throws BillfishError INVALID_OPTION, also for an invalid environment variable (BILLFISH_CPU_ISA)
 */
export function devices(options: DevicesOptions = {}): Devices {
  const given = readOptions(devicesOptions, options)
  try {
    return withKinds(addon().devices(), given)
  } catch (error) {
    throw asBillfishError(error)
  }
}

/**
 * {@link devices} without blocking the event loop. Takes no memory on a device whose free memory NVML can report.
 * @throws BillfishError INVALID_OPTION
 */
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
