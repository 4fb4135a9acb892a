import { deviceName } from './device-map'
import { type MemorySize, parseMemorySize } from './memory-size'

/**
 * What CUDA itself takes of a device's memory: the context, loaded kernels, captured graphs and the libraries' own
 * memory. One size for every CUDA device, or device -> size.
 */
export type DeviceOverhead = MemorySize | Readonly<Record<string, MemorySize>>

/**
 * Of a CUDA device where this process has no context yet. An estimate: contexts of recent GPUs and drivers are reported
 * with 300 to 500 MiB.
 */
const USUAL_BYTES = 512 * 2 ** 20

/**
 * Of a CUDA device whose free memory was asked for with the context there. An estimate of what comes later: kernels are
 * loaded when they first run.
 */
export const BYTES_AFTER_CONTEXT = 256 * 2 ** 20

/** @throws BillfishError INVALID_OPTION for what is no size or no device */
export function overheadOf(option: DeviceOverhead | undefined): (device: string) => number {
  const named = new Map<string, number>()
  let usual = USUAL_BYTES
  if (typeof option === 'object' && option !== null) {
    for (const [key, size] of Object.entries(option)) {
      named.set(deviceName(key, 'deviceOverhead'), parseMemorySize(size, `deviceOverhead of ${key}`))
    }
  } else if (option !== undefined) {
    usual = parseMemorySize(option, 'deviceOverhead')
  }
  return (device) => named.get(device) ?? (device.startsWith('cuda:') ? usual : 0)
}
