import { z } from 'zod'
import { BillfishError } from '../common/errors'
import type { OptionSchemas } from '../options/read-options'
import { deviceName } from './device-map'
import { type DeviceOverhead, overheadOf } from './device-overhead'
import { isCpu } from './host-budgets'
import { type MemorySize, memorySize, parseMemorySize } from './memory-size'
import type { PlanDevice } from './plan'

/** A device with its budget and speed. */
export interface DeviceOption {
  readonly device: string | number
  /**
   * Bytes, or a string such as `'24GiB'`. Default: the device's entry in maxMemory, else what is free if this machine has
   * the device, else unlimited. All CPU devices are the same memory: those without a budget share what this process may
   * take.
   */
  readonly memory?: MemorySize | undefined
  /**
   * Speed of reading weights relative to the other devices, in any unit, such as memory bandwidth in GB/s. Defaults to
   * 1 for the fastest kind of device listed; next to CUDA devices a CPU counts as 1/20 and the disk as 1/400.
   */
  readonly speed?: number | undefined
}

/** Which devices may be used, and how much of each. */
export interface DeviceOptions {
  /**
   * Devices that `'auto'` and the strategies choose from, in pipeline order; defaults to those of maxMemory, by index,
   * CPU last. For the strategies, a CPU after other devices takes only what does not fit on them.
   */
  readonly devices?: readonly (string | number | DeviceOption)[] | undefined
  /** Device -> bytes, or a string such as `'38GiB'`. For devices without a budget see {@link DeviceOption.memory}. */
  readonly maxMemory?: Readonly<Record<string, MemorySize>> | undefined
  /**
   * What CUDA itself takes of a device's memory (context, loaded kernels, libraries): one size for all devices, or
   * device -> size. It counts toward the budget. Default: an estimate of 512 MiB, or 256 MiB if the budget is the free
   * memory of a device where this process already has a context.
   */
  readonly deviceOverhead?: DeviceOverhead | undefined
}

const device = z.union([z.string(), z.number()]).describe("a device such as 'cpu', 'cuda:0' or 0")

export const deviceOptions: OptionSchemas<DeviceOptions> = {
  devices: z
    .array(
      z
        .union([
          device,
          z.strictObject({
            device,
            memory: memorySize({ unlimited: true }).optional(),
            speed: z.number().positive().describe('a number above 0').optional(),
          }),
        ])
        .describe("a device such as 'cuda:0', 0 or { device: 'cuda:0', memory: '24GiB' }"),
    )
    .describe("an array of devices, such as ['cuda:0', 'cuda:1']"),
  maxMemory: z
    .record(z.string(), memorySize())
    .describe("an object of devices and their sizes, such as { 'cuda:0': '20GiB', cpu: '64GiB' }"),
  deviceOverhead: z
    .union([memorySize(), z.record(z.string(), memorySize())])
    .describe("a size such as '512MiB', or an object of devices and sizes"),
}

export interface PlanDevices {
  /** Devices to choose from, in order. */
  readonly candidates: readonly PlanDevice[]
  /** Device -> bytes, for the candidates and every device in maxMemory; Infinity for no limit. */
  readonly budgets: ReadonlyMap<string, number>
  /** Bytes that the runtime of a device takes. */
  readonly overheadOn: (device: string) => number
}

/** Rough relative read speed by kind of device: HBM, DDR memory, SSD. */
const DEFAULT_SPEED: Readonly<Record<string, number>> = { cuda: 1, cpu: 1 / 20, disk: 1 / 400 }

/**
 * @param options `hostBytes`: bytes shared by the CPU devices without a budget
 * @throws BillfishError INVALID_OPTION for an invalid device or size, and for duplicate devices
 */
export function planDevices({
  devices,
  maxMemory,
  deviceOverhead,
  hostBytes = Number.POSITIVE_INFINITY,
}: DeviceOptions & { readonly hostBytes?: number | undefined }): PlanDevices {
  const overheadOn = overheadOf(deviceOverhead)
  const budgets = new Map<string, number>()
  for (const [key, size] of Object.entries(maxMemory ?? {})) {
    const device = deviceName(key, 'maxMemory')
    if (budgets.has(device)) throw duplicateDevice('maxMemory', device)
    budgets.set(device, parseMemorySize(size, `maxMemory of ${key}`))
  }
  const entries = devices ?? (budgets.size > 0 ? devicesOf(maxMemory) : ['cpu'])
  if (entries.length === 0) throw new BillfishError('INVALID_OPTION', 'devices is empty; give at least one device.')
  const named = entries.map((entry) => {
    const option: DeviceOption = typeof entry === 'object' && entry !== null ? entry : { device: entry }
    return { ...option, device: deviceName(option.device, 'devices') }
  })

  const unit = Math.max(...named.map(({ device }) => speedOfKind(device)))
  const candidates: PlanDevice[] = []
  for (const { device, memory, speed = speedOfKind(device) / unit } of named) {
    if (candidates.some((other) => other.device === device)) throw duplicateDevice('devices', device)
    if (memory !== undefined) {
      budgets.set(device, memory === Number.POSITIVE_INFINITY ? memory : parseMemorySize(memory, `memory of ${device}`))
    }
    candidates.push({
      device,
      memory: budgets.get(device) ?? Number.POSITIVE_INFINITY,
      overhead: overheadOn(device),
      speed,
    })
  }
  return { candidates: withHostMemory(candidates, budgets, hostBytes), budgets, overheadOn }
}

/** Gives CPU devices without a budget equal parts of the host memory that the others leave. */
function withHostMemory(
  candidates: readonly PlanDevice[],
  budgets: ReadonlyMap<string, number>,
  hostBytes: number,
): PlanDevice[] {
  const onCpu = candidates.filter(({ device }) => isCpu(device))
  const sharing = onCpu.filter(({ device }) => !budgets.has(device))
  const given = onCpu.reduce((sum, { device }) => sum + finite(budgets.get(device)), 0)
  const memory = Math.floor(Math.max(0, hostBytes - given) / sharing.length)
  return candidates.map((candidate) =>
    sharing.includes(candidate) ? { ...candidate, memory, shared: true } : candidate,
  )
}

/** A finite budget, else 0. */
function finite(bytes = 0): number {
  return Number.isFinite(bytes) ? bytes : 0
}

/** The devices that have budgets, in default pipeline order: by index, CPU after GPUs, disk last. */
export function devicesOf(maxMemory: DeviceOptions['maxMemory']): string[] {
  const rank = (device: string) => (device === 'disk' ? 2 : device.startsWith('cpu') ? 1 : 0)
  const names = Object.keys(maxMemory ?? {}).map((device) => deviceName(device, 'maxMemory'))
  return names.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, 'en', { numeric: true }))
}

function speedOfKind(device: string): number {
  return DEFAULT_SPEED[device.replace(/:.*/, '')] ?? 1
}

function duplicateDevice(option: string, device: string): BillfishError {
  return new BillfishError('INVALID_OPTION', `${option} names ${device} twice; name it once.`)
}
