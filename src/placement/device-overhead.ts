import { deviceName } from './device-map'
import { type MemorySize, parseMemorySize } from './memory-size'

/**
 * What CUDA itself takes of a device's memory: the context, loaded kernels, captured graphs and the libraries' own
 * memory. One size for every CUDA device, or device -> size.
 */
export type DeviceOverhead = MemorySize | Readonly<Record<string, MemorySize>>

/**
 * For a device on which this process has no CUDA context yet. An estimate: recent GPUs and drivers are reported to use
 * 300 to 500 MiB.
 */
const DEFAULT_OVERHEAD = 512 * 2 ** 20

/**
 * For a device whose free memory was measured with the context in place. An estimate of what comes later, since kernels
 * are loaded on first use.
 */
export const OVERHEAD_AFTER_CONTEXT = 256 * 2 ** 20

/** @throws BillfishError INVALID_OPTION for an invalid size or device */
export function overheadOf(option: DeviceOverhead | undefined): (device: string) => number {
  const named = new Map<string, number>()
  let fallback = DEFAULT_OVERHEAD
  if (typeof option === 'object' && option !== null) {
    for (const [key, size] of Object.entries(option)) {
      named.set(deviceName(key, 'deviceOverhead'), parseMemorySize(size, `deviceOverhead of ${key}`))
    }
  } else if (option !== undefined) {
    fallback = parseMemorySize(option, 'deviceOverhead')
  }
  return (device) => named.get(device) ?? (device.startsWith('cuda:') ? fallback : 0)
}
