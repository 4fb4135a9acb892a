import { BillfishError } from '../../common/errors'
import { printed } from '../../options/printed'
import { type MemorySize, parseMemorySize } from '../memory-size'
import type { ModuleNode } from './module-tree'

/** A CUDA device index, or where weights go when no GPU has room for them. */
export type InferredDevice = number | 'cpu' | 'disk'

/** Memory budget of one device, in bytes. */
export interface Budget {
  readonly device: InferredDevice
  readonly bytes: number
}

/**
 * Budgets in the order in which devices are filled: GPUs by index, then the CPU if it has one, then the disk, which is
 * always present and unlimited.
 * @throws BillfishError INVALID_OPTION for an empty map, an unknown or duplicate device, or an invalid size
 */
export function parseBudgets(maxMemory: Readonly<Record<string | number, MemorySize>>): Budget[] {
  const entries = Object.entries(maxMemory)
  if (entries.length === 0) {
    throw new BillfishError(
      'INVALID_OPTION',
      `maxMemory is empty; give each device a budget, for example { 0: '38GiB', 1: '38GiB', cpu: '100GiB' }.`,
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
 * Lowers the budgets so that filling the GPUs in order spreads the model over all of them.
 *
 * Each GPU gets an equal share of the model plus a margin. Without the margin, layers that do not divide evenly would
 * waste a bit of every share, and the waste would add up to layers with no device. For the same reason the last GPU
 * keeps its full budget. CPU budgets are unchanged: the CPU takes what does not fit.
 * @param meanFinalModule mean bytes of the leaf modules
 * @param keepFirstLight give the first GPU only what the others cannot hold, because it does other work too
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
  // A single GPU has nothing to balance.
  if (usable.length < 2 || !last) return [...budgets]

  const margin = Math.floor(1.25 * Math.max(largestFirstLayer(model), meanFinalModule))
  const sharers = keepFirstLight ? usable.length - 1 : usable.length
  const share = Math.floor(model.size / sharers) + margin

  const lightGpu = keepFirstLight ? gpus[0] : undefined
  const capped = budgets.map((budget) =>
    usable.includes(budget) && budget !== last && budget !== lightGpu
      ? { ...budget, bytes: Math.min(share, budget.bytes) }
      : budget,
  )
  if (!lightGpu) return capped

  // GPUs come first in the list, so the index of a GPU is its rank. accelerate counts as many GPUs as have memory,
  // starting from the first, even if GPUs without memory are among them.
  const others = capped.slice(1, usable.length).reduce((total, { bytes }) => total + bytes, 0)
  const rest = Math.max(0, model.size - others)
  return capped.map((budget) =>
    budget.device === lightGpu.device ? { ...budget, bytes: Math.min(rest, budget.bytes) } : budget,
  )
}

/**
 * Bytes of the largest unsplittable layer, judged by the first layer of each numbered list, since the layers of a list
 * are alike. 0 if layers may be split.
 */
function largestFirstLayer(module: ModuleNode): number {
  const first = module.children.find(({ indivisible }) => indivisible)
  return Math.max(first?.size ?? 0, ...module.children.map(largestFirstLayer))
}
