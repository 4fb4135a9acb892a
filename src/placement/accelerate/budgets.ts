import { BillfishError } from '../../errors'
import { printed } from '../../options/printed'
import { type MemorySize, parseMemorySize } from '../memory-size'
import type { ModuleNode } from './module-tree'

/** A CUDA device's index, or where weights go that no GPU has room for. */
export type InferredDevice = number | 'cpu' | 'disk'

/** What a device may hold. */
export interface Budget {
  readonly device: InferredDevice
  readonly bytes: number
}

/**
 * The budgets in the order in which devices are filled: GPUs by index, the CPU if it has a budget, and the disk, which
 * takes whatever is left and so is always there and has no bound.
 * @throws BillfishError INVALID_OPTION for no devices, a device that is none or named twice, or a size that is none
 */
export function parseBudgets(maxMemory: Readonly<Record<string | number, MemorySize>>): Budget[] {
  const entries = Object.entries(maxMemory)
  if (entries.length === 0) {
    throw new BillfishError(
      'INVALID_OPTION',
      `maxMemory names no device; give each one's budget, for example { 0: '38GiB', 1: '38GiB', cpu: '100GiB' }.`,
    )
  }
  const bytes = new Map<InferredDevice, number>()
  for (const [key, size] of entries) {
    const device = parseDevice(key)
    if (bytes.has(device)) {
      throw new BillfishError('INVALID_OPTION', `maxMemory names CUDA device ${device} twice; give it one budget.`)
    }
    bytes.set(device, parseMemorySize(size, `maxMemory of ${key}`))
  }

  const order = [...bytes.keys()].filter((device) => typeof device === 'number').sort((a, b) => a - b)
  const budgets: Budget[] = order.map((device) => ({ device, bytes: bytes.get(device) ?? 0 }))
  const cpu = bytes.get('cpu')
  if (cpu !== undefined) budgets.push({ device: 'cpu', bytes: cpu })
  budgets.push({ device: 'disk', bytes: Number.POSITIVE_INFINITY })
  return budgets
}

function parseDevice(key: string): InferredDevice {
  if (key === 'cpu' || key === 'disk') return key
  const [, index] = /^(?:cuda:)?(0|[1-9]\d*)$/.exec(key) ?? []
  if (index !== undefined) return Number(index)
  throw new BillfishError(
    'INVALID_OPTION',
    `maxMemory: ${printed(key)} is not a device; name a CUDA device by its index (0, 1, ...), 'cpu' or 'disk'.`,
  )
}

/**
 * The budgets lowered so that filling the GPUs one after the other spreads the model over all of them.
 *
 * Every GPU may take an equal share of the model and a cushion. Without a cushion, layers that do not divide evenly would
 * leave a little of every share unused, and those bits would add up to layers without a place. For the same reason the
 * last GPU keeps all that it has. Budgets of the CPU stay as they are: it is there for what does not fit.
 * @param meanFinalModule mean bytes of the modules that have no modules in them
 * @param keepFirstLight give the first GPU only what the others cannot hold, as it is to do other work too
 */
export function balanceBudgets(
  budgets: readonly Budget[],
  model: ModuleNode,
  meanFinalModule: number,
  keepFirstLight: boolean,
): Budget[] {
  const gpus = budgets.filter(({ device }) => typeof device === 'number')
  const usable = gpus.filter(({ bytes }) => bytes > 0)
  const last = usable.at(-1)
  // One GPU has nobody to share with.
  if (usable.length < 2 || !last) return [...budgets]

  const cushion = Math.floor(1.25 * Math.max(largestFirstLayer(model), meanFinalModule))
  const sharers = keepFirstLight ? usable.length - 1 : usable.length
  const share = Math.floor(model.size / sharers) + cushion

  const lightGpu = keepFirstLight ? gpus[0] : undefined
  const capped = budgets.map((budget) =>
    usable.includes(budget) && budget !== last && budget !== lightGpu
      ? { ...budget, bytes: Math.min(share, budget.bytes) }
      : budget,
  )
  if (!lightGpu) return capped

  // The GPUs lead the list, so a GPU's place in it is its rank. accelerate counts as many GPUs as have memory, from the
  // first on, though those without may be among them.
  const others = capped.slice(1, usable.length).reduce((total, { bytes }) => total + bytes, 0)
  const rest = Math.max(0, model.size - others)
  return capped.map((budget) =>
    budget.device === lightGpu.device ? { ...budget, bytes: Math.min(rest, budget.bytes) } : budget,
  )
}

/**
 * Bytes of the largest layer that is never split, judged by the first of each numbered list: the layers of a list are
 * alike. 0 where the layers may be split.
 */
function largestFirstLayer(module: ModuleNode): number {
  const first = module.children.find(({ indivisible }) => indivisible)
  return Math.max(first?.size ?? 0, ...module.children.map(largestFirstLayer))
}
