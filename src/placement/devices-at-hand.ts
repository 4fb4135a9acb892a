import { deviceName } from './device-map'
import { bytesAfterContext } from './device-overhead'
import { type DeviceOption, type DeviceOptions, devicesOf } from './plan-devices'

/** A device of this machine with memory of its own. */
export interface DeviceAtHand {
  readonly device: string
  readonly freeBytes: number
  /** Whether this process has a CUDA context there, which is not in `freeBytes` then. */
  readonly hasContext: boolean
}

/**
 * The options completed for loading on this machine: where no device is named, all that have memory of their own are
 * meant, or else the CPU; where one of these has no budget, it has what is free on it. The CPU's memory is no concern
 * here: what else needs it, the operating system knows.
 * @throws BillfishError INVALID_OPTION for what is no device
 */
export function withDevicesAtHand<Options extends DeviceOptions>(
  options: Options,
  atHand: readonly DeviceAtHand[],
): Options {
  const budgeted = devicesOf(options.maxMemory)
  const named = options.devices ?? (budgeted.length > 0 ? budgeted : atHand.map(({ device }) => device))
  const overheads: Record<string, number> = {}
  const complete = (entry: string | number | DeviceOption): DeviceOption => {
    const option = typeof entry === 'object' && entry !== null ? entry : { device: entry }
    const device = deviceName(option.device, 'devices')
    if (option.memory !== undefined || budgeted.includes(device)) return option
    const found = atHand.find((candidate) => candidate.device === device)
    if (found?.hasContext) overheads[device] = bytesAfterContext
    return { ...option, memory: found?.freeBytes }
  }
  const devices = named.length > 0 || options.devices ? named.map(complete) : ['cpu']
  return { ...options, devices, deviceOverhead: options.deviceOverhead ?? overheads }
}
