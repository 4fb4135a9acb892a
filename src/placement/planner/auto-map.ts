import type { CooperativeTask } from '../../common/event-loop'
import type { MemoryLimits } from '../../native/addon'
import type { ModelLimits } from '../limits'
import { capacityOf, type PlanDevice } from '../plan'
import { type CostOf, isFeasibleWithin, type MinMemory, partition } from './partition'
import { type Costs, type NeedsOnDevice, stageTime, tokensPerStep } from './stage-costs'

/** Size limits that a split depends on. */
export type SplitLimits = MemoryLimits & Pick<ModelLimits, 'maxSequences'>

/**
 * The placement that minimizes the time of the slowest stage within the memory of the devices. Stages are contiguous;
 * the final norm stays with the head. The time of a stage is that of a decode step with all sequences running: reading
 * its weights (of the embedding, a token reads one row), or computing with them if that takes longer.
 * @returns for each device the end of its run of `costs.groups`, or undefined if no split fits
 */
export function* autoSplit(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number[] | undefined> {
  return yield* partition(costs.groups.length, capacities(devices), ...costOf(costs, limits, devices))
}

/** Whether {@link autoSplit} finds a split. */
export function* isFeasible(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<boolean> {
  const [items, budgets] = [costs.groups.length, capacities(devices)]
  return yield* isFeasibleWithin(Number.POSITIVE_INFINITY, items, budgets, ...costOf(costs, limits, devices))
}

/** {@link autoSplit}; if nothing fits, the split that fits with {@link minShortfall} bytes more on each device. */
export function* minShortfallSplit(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number[]> {
  const more = yield* minShortfall(costs, limits, devices)
  return (yield* autoSplit(costs, limits, withExtraMemory(devices, more))) as number[]
}

/** The fewest extra bytes per device with which some split fits; 0 if one fits already. */
export function* minShortfall(
  costs: Costs,
  limits: SplitLimits,
  devices: readonly PlanDevice[],
): CooperativeTask<number> {
  const items = costs.groups.length
  const costOfStage = costOf(costs, limits, devices)
  const fits = (bytes: number) =>
    isFeasibleWithin(Number.POSITIVE_INFINITY, items, capacities(withExtraMemory(devices, bytes)), ...costOfStage)
  let low = 0 // does not fit; `high` does
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

function withExtraMemory(devices: readonly PlanDevice[], bytes: number): PlanDevice[] {
  return devices.map((device) => ({ ...device, memory: device.memory + bytes }))
}

/** Module -> device for a split. */
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

function capacities(devices: readonly PlanDevice[]): number[] {
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
