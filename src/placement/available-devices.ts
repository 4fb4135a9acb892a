import { BillfishError } from '../common/errors'
import { isStrategy } from './accelerate/strategy-map'
import { type DeviceMap, deviceName, groupName } from './device-map'
import { OVERHEAD_AFTER_CONTEXT } from './device-overhead'
import { isCpu, isHost } from './host-budgets'
import { type DeviceOption, devicesOf } from './plan-devices'
import type { PlanOptions } from './plan-options'

/** A GPU of this machine. */
export interface AvailableDevice {
  readonly device: string
  readonly freeBytes: number
  /** Whether this process has a CUDA context on it; its memory is then not part of `freeBytes`. */
  readonly hasContext: boolean
}

/** What placement needs to know about the machine. Queried only when the options leave something open. */
export interface Machine {
  /** The GPUs; if there are none, why. */
  gpus(): Promise<{ readonly devices: readonly AvailableDevice[]; readonly reason: string | null }>
  /** Bytes of host memory that this process may still allocate. */
  hostBytes(): number
}

/** Plan options with everything the machine decides filled in. */
export interface ResolvedPlanOptions extends PlanOptions {
  readonly deviceMap: NonNullable<PlanOptions['deviceMap']>
  /** Bytes shared by the CPU devices without a budget of their own; undefined for no limit. */
  readonly hostBytes?: number | undefined
  /** Why these devices were chosen if the caller named none, as a sentence. */
  readonly choice?: string | undefined
}

/**
 * Completes the options with what the machine has. Without a device map they mean `'auto'`; if no device is named
 * either, over all GPUs, or on the CPU if there are none. The budget of a GPU defaults to its free memory. CPU devices
 * without a budget share what this process may still allocate.
 * @throws BillfishError INVALID_OPTION for an unknown device
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
  const overheads = found.filter(({ hasContext }) => hasContext).map(({ device }) => [device, OVERHEAD_AFTER_CONTEXT])
  return {
    ...options,
    deviceMap,
    devices,
    maxMemory: { ...options.maxMemory, ...Object.fromEntries(found.map((gpu) => [gpu.device, gpu.freeBytes])) },
    deviceOverhead: options.deviceOverhead ?? Object.fromEntries(overheads),
    hostBytes: open.some(isHost) ? machine.hostBytes() : undefined,
    choice:
      noneNamed && gpus.length === 0
        ? `No GPU was found, so this plan is for the CPU. ${sentence(reason ?? '')}`.trim()
        : undefined,
  }
}

const sentence = (text: string) => text.charAt(0).toUpperCase() + text.slice(1)

function deviceOption(entry: string | number | DeviceOption): DeviceOption & { readonly device: string } {
  const option = typeof entry === 'object' && entry !== null ? entry : { device: entry }
  return { ...option, device: deviceName(option.device, 'devices') }
}

/** The devices that a map names, with groups expanded. */
function devicesOfMap(map: DeviceMap): string[] {
  const values = typeof map === 'object' && map !== null ? Object.values(map) : [map]
  return [...new Set(values.flatMap((value) => groupName(value).split(',')))]
}

/**
 * All CPU devices share the same memory, but a budget applies to one name only; a budget for an unused name would have
 * no effect.
 */
function rejectBudgetsOfOtherCpus(given: readonly string[], taking: readonly string[], budgeted: Set<string>): void {
  const other = given.find((device) => isCpu(device) && !taking.includes(device))
  const open = taking.filter((device) => isCpu(device) && !budgeted.has(device))
  if (other === undefined || open.length === 0) return
  throw new BillfishError(
    'INVALID_OPTION',
    `maxMemory has a budget for ${other}, but modules are placed on ${open.join(', ')}. Give budgets for these names.`,
  )
}

function rejectOtherDevices(mapped: readonly string[], named: readonly { readonly device: string }[]): void {
  const other = mapped.find((device) => named.every((option) => option.device !== device))
  if (other === undefined) return
  const names = named.map(({ device }) => device).join(', ')
  throw new BillfishError(
    'INVALID_OPTION',
    `deviceMap names ${other}, but devices lists ${names}. Omit one of them, or use the same devices in both.`,
  )
}

function isGpu(device: string): boolean {
  return device.startsWith('cuda:')
}
