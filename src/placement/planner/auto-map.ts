import type { CooperativeTask } from '../../event-loop'
import type { ModelLimits } from '../../limits'
import { capacityOf, type PlanDevice } from '../plan'
import { type CostOf, isFeasibleWithin, type MinMemory, partition } from './partition'
import type { Costs, NeedsOnDevice } from './stage-costs'
import type { MemoryLimits } from './stage-memory'
import { stageTime, tokensPerStep } from './stage-time'

/** What sizes a split depends on. */
export type SplitLimits = MemoryLimits & Pick<ModelLimits, 'maxSequences'>

/**
 * The placement that makes the slowest stage as fast as it can be within the devices' memory: contiguous stages, final
 * norm with the head. A stage's time is that of a decoding step with all sequences under way: of reading its weights
 * (not the embedding's, of which a token reads one row), or of computing with them where that takes longer.
 * @returns for each device the end of its run of `costs.groups`, or undefined if no split fits
 */
export function* autoSplit(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number[] | undefined> {
  return yield* partition(costs.groups.length, roomsOn(devices), ...costOf(costs, limits, devices))
}

/** Whether {@link autoSplit} finds a split. */
export function* isFeasible(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<boolean> {
  const [items, rooms] = [costs.groups.length, roomsOn(devices)]
  return yield* isFeasibleWithin(Number.POSITIVE_INFINITY, items, rooms, ...costOf(costs, limits, devices))
}

/** {@link autoSplit} or, where nothing fits, the split that would with {@link minShortfall}. */
export function* minShortfallSplit(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number[]> {
  const more = yield* minShortfall(costs, limits, devices)
  return (yield* autoSplit(costs, limits, withMore(devices, more))) as number[]
}

/** The least bytes more on every device with which something fits; 0 if it does already. */
export function* minShortfall(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number> {
  const items = costs.groups.length
  const costOfStage = costOf(costs, limits, devices)
  const fits = (bytes: number) =>
    isFeasibleWithin(Number.POSITIVE_INFINITY, items, roomsOn(withMore(devices, bytes)), ...costOfStage)
  let low = 0 // this does not fit; what `high` says does
  let high = 0
  while (!(yield* fits(high))) {
    low = high
    high = high * 2 || 2 ** 20
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (yield* fits(middle)) high = middle
    else low = middle
  }
  return high
}

function withMore(devices: readonly PlanDevice[], bytes: number): PlanDevice[] {
  return devices.map((device) => ({ ...device, memory: device.memory + bytes }))
}

/** Module -> device of a split. */
export function splitMap(
  { groups }: Costs,
  devices: readonly PlanDevice[],
  ends: readonly number[],
): Map<string, string> {
  return new Map(
    groups.flatMap((group, i) => {
      const { device } = devices[ends.findIndex((end) => i < end)] as PlanDevice
      return group.map((module): [string, string] => [module, device])
    }),
  )
}

function roomsOn(devices: readonly PlanDevice[]): number[] {
  return devices.map(capacityOf)
}

function costOf(costs: Costs, limits: SplitLimits, devices: readonly PlanDevice[]): [CostOf, MinMemory] {
  const needsOn = costs.needs(limits)
  const needs = devices.map(({ device }) => needsOn(device))
  const tokens = tokensPerStep(devices, limits.maxSequences)
  return [
    (index, first, end) => {
      const stage = (needs[index] as NeedsOnDevice).all(first, end)
      return { memory: stage.memory, time: stageTime(stage, devices[index] as PlanDevice, tokens) }
    },
    (index, first, end) => (needs[index] as NeedsOnDevice).minMemory(first, end),
  ]
}
