import { BillfishError } from '../errors'
import { isStrategy } from './accelerate/strategy-map'
import { type DeviceMap, deviceName, groupName } from './device-map'
import { BYTES_AFTER_CONTEXT } from './device-overhead'
import { isCpu, isHost } from './host-budgets'
import { type DeviceOption, devicesOf } from './plan-devices'
import type { PlanOptions } from './plan-model'

/** A GPU of this machine. */
export interface AvailableDevice {
  readonly device: string
  readonly freeBytes: number
  /** Whether this process has a CUDA context there, which is not in `freeBytes` then. */
  readonly hasContext: boolean
}

/** What placement asks a machine, when it has to know. */
export interface Machine {
  /** The GPUs, and where there is none, why. */
  gpus(): Promise<{ readonly devices: readonly AvailableDevice[]; readonly reason: string | null }>
  /** Bytes of the machine's own memory that this process may still take. */
  hostBytes(): number
}

/** Options with all filled in that a machine decides. */
export interface ResolvedPlanOptions extends PlanOptions {
  readonly deviceMap: NonNullable<PlanOptions['deviceMap']>
  /** What the CPU devices without a budget of their own have together; no limit where undefined. */
  readonly hostBytes?: number | undefined
  /** Why these devices, where nobody named any, as a sentence. */
  readonly choice?: string | undefined
}

/**
 * The options completed by what a machine has. Without a device map they mean `'auto'`; where no device is named either,
 * over all GPUs, or on the CPU where there is none. A GPU of the machine that has no budget may hold what is free on it;
 * the CPU devices that have none, what this process may still take together.
 * @throws BillfishError INVALID_OPTION for what is no device
 */
export async function resolveDevices(options: PlanOptions, machine: Machine): Promise<ResolvedPlanOptions> {
  const deviceMap = options.deviceMap ?? 'auto'
  const mapped = deviceMap === 'auto' || isStrategy(deviceMap) ? [] : devicesOfMap(deviceMap)
  const budgeted = new Set(devicesOf(options.maxMemory))
  const groupable = mapped.length === 1 || mapped.length % (options.tensorParallelSize ?? 1) === 0
  const implied = budgeted.size > 0 ? [...budgeted] : groupable ? mapped : ['cpu']
  const named = (options.devices ?? implied).map(deviceOption)
  for (const { device, memory } of named) if (memory !== undefined) budgeted.add(device)

  const taking = mapped.length > 0 ? mapped : named.map(({ device }) => device)
  rejectBudgetsOfOtherCpus(devicesOf(options.maxMemory), taking, budgeted)
  if (mapped.length > 0 && options.devices !== undefined) rejectOtherDevices(mapped, named)

  const noneNamed = named.length === 0 && options.devices === undefined
  const needsGpus = [...named.map(({ device }) => device), ...mapped].some((name) => isGpu(name) && !budgeted.has(name))
  const { devices: gpus, reason } = noneNamed || needsGpus ? await machine.gpus() : { devices: [], reason: null }
  const devices = noneNamed ? (gpus.length > 0 ? gpus.map(({ device }) => ({ device })) : [{ device: 'cpu' }]) : named

  const used = new Set([...devices.map(({ device }) => device), ...mapped])
  const open = [...used].filter((device) => !budgeted.has(device))
  const found = gpus.filter(({ device }) => open.includes(device))
  const overheads = found.filter(({ hasContext }) => hasContext).map(({ device }) => [device, BYTES_AFTER_CONTEXT])
  return {
    ...options,
    deviceMap,
    devices,
    maxMemory: { ...options.maxMemory, ...Object.fromEntries(found.map((gpu) => [gpu.device, gpu.freeBytes])) },
    deviceOverhead: options.deviceOverhead ?? Object.fromEntries(overheads),
    hostBytes: open.some(isHost) ? machine.hostBytes() : undefined,
    choice:
      noneNamed && gpus.length === 0
        ? `No GPU was found, so this is for the CPU. ${sentence(reason ?? '')}`.trim()
        : undefined,
  }
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

function deviceOption(entry: string | number | DeviceOption): DeviceOption & { readonly device: string } {
  const option = typeof entry === 'object' && entry !== null ? entry : { device: entry }
  return { ...option, device: deviceName(option.device, 'devices') }
}

/** The devices that a map names, those of groups one by one. */
function devicesOfMap(map: DeviceMap): string[] {
  const values = typeof map === 'object' && map !== null ? Object.values(map) : [map]
  return [...new Set(values.flatMap((value) => groupName(value).split(',')))]
}

/** All CPU devices are one memory, but a budget is for one name: that of another would not count. */
function rejectBudgetsOfOtherCpus(given: readonly string[], taking: readonly string[], budgeted: Set<string>): void {
  const other = given.find((device) => isCpu(device) && !taking.includes(device))
  const open = taking.filter((device) => isCpu(device) && !budgeted.has(device))
  if (other === undefined || open.length === 0) return
  throw new BillfishError(
    'INVALID_OPTION',
    `maxMemory has a budget for ${other}, but modules go to ${open.join(', ')}: give these budgets, by these names.`,
  )
}

function rejectOtherDevices(mapped: readonly string[], named: readonly { readonly device: string }[]): void {
  const other = mapped.find((device) => named.every((option) => option.device !== device))
  if (other === undefined) return
  const names = named.map(({ device }) => device).join(', ')
  throw new BillfishError(
    'INVALID_OPTION',
    `deviceMap names ${other}, but devices are ${names}. Leave one of them out, or name the same devices in both.`,
  )
}

function isGpu(device: string): boolean {
  return device.startsWith('cuda:')
}
