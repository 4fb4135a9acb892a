import type { CooperativeTask } from '../../common/event-loop'
import type { Model } from '../../models/architecture'
import { type ModelLimits, modelLimits, type SizeOptions } from '../limits'
import type { PlanDevice } from '../plan'
import { isFeasible } from '../planner/auto-map'
import type { Costs } from '../planner/stage-costs'
import { formatBinaryBytes } from './format'

/** The smallest single changes that would make an automatic placement fit, as text. */
export function* suggestChanges(
  { shape }: Model,
  costs: Costs,
  limits: ModelLimits,
  devices: readonly PlanDevice[],
  options: SizeOptions,
): CooperativeTask<string[]> {
  const fits = (change: SizeOptions, on: readonly PlanDevice[] = devices) =>
    isFeasible(costs, modelLimits(shape, { ...options, ...change }), on)
  const changes: string[] = []
  const lower = function* (name: 'maxModelLength' | 'maxSequences' | 'maxBatchTokens'): CooperativeTask<void> {
    const value = yield* largest(0, limits[name], (lower) => fits({ [name]: lower }))
    if (value > 0) changes.push(`${name} ${value} instead of ${limits[name]}`)
  }
  yield* lower('maxModelLength')
  yield* lower('maxSequences')
  const cacheTokens = yield* largest(limits.maxModelLength - 1, limits.cacheTokens, (tokens) =>
    fits({ maxCacheTokens: tokens }),
  )
  if (cacheTokens >= limits.maxModelLength) {
    changes.push(`maxCacheTokens ${cacheTokens} instead of ${limits.cacheTokens}`)
  }
  yield* lower('maxBatchTokens')
  if (limits.exact && (yield* fits({ dtype: 'auto' }))) changes.push("dtype 'auto' instead of 'float32'")
  const another = devices.filter(({ device }) => !/^(cpu|disk)\b/.test(device)).at(-1) ?? devices.at(-1)
  if (another && !another.shared && (yield* fits({}, [...devices, another])))
    changes.push(describeExtraDevices(another, limits.tensorParallelSize))
  return changes
}

/** One more group of devices, as text. */
function describeExtraDevices({ device, memory }: PlanDevice, ranks: number): string {
  const members = device.split(',').length
  // A single device that hosts a whole group has room for all ranks.
  if (members === 1) return `one more device of ${formatBinaryBytes(memory * ranks)}`
  return `${members} more devices of ${formatBinaryBytes(memory)}`
}

/**
 * The largest value in (low, high) for which `holds`, assuming it holds for every smaller value; `low` if there is
 * none.
 */
function* largest(
  low: number,
  high: number,
  holds: (value: number) => CooperativeTask<boolean>,
): CooperativeTask<number> {
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (yield* holds(middle)) low = middle
    else high = middle
  }
  return low
}
