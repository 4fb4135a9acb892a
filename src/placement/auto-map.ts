import { type CostOf, fastestSlowest, partition } from './partition'
import type { PlanDevice } from './plan'
import type { NeedsOf, StageCosts } from './stage-costs'
import type { MemoryLimits } from './stage-memory'

/**
 * The placement that makes the slowest stage as fast as it can be within the devices' memory: contiguous stages, final
 * norm with the head. A stage's time is taken as the bytes that it reads a token over its device's speed: its layers'
 * weights and the head's, not the embedding's, of which a token reads one row.
 * @returns for each device the end of its run of `costs.groups`, or undefined if no split fits
 */
export function autoSplit(
  costs: StageCosts,
  limits: MemoryLimits,
  devices: readonly PlanDevice[],
): number[] | undefined {
  return partition(costs.groups.length, memoryOf(devices), costOf(costs.needs(limits), devices))
}

/** Whether {@link autoSplit} finds a split. */
export function fitsSomehow(costs: StageCosts, limits: MemoryLimits, devices: readonly PlanDevice[]): boolean {
  return fastestSlowest(costs.groups.length, memoryOf(devices), costOf(costs.needs(limits), devices)) !== undefined
}

/** {@link autoSplit} or, where nothing fits, the split that would with {@link leastMore}. */
export function leastShortSplit(costs: StageCosts, limits: MemoryLimits, devices: readonly PlanDevice[]): number[] {
  return autoSplit(costs, limits, withMore(devices, leastMore(costs, limits, devices))) as number[]
}

/** The least bytes more on every device with which something fits; 0 if it does already. */
export function leastMore(costs: StageCosts, limits: MemoryLimits, devices: readonly PlanDevice[]): number {
  const fits = (bytes: number) => fitsSomehow(costs, limits, withMore(devices, bytes))
  let low = 0 // this does not fit; what `high` says does
  let high = 0
  while (!fits(high)) {
    low = high
    high = high * 2 || 2 ** 20
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2)
    if (fits(middle)) high = middle
    else low = middle
  }
  return high
}

function withMore(devices: readonly PlanDevice[], bytes: number): PlanDevice[] {
  return devices.map((device) => ({ ...device, memory: device.memory + bytes }))
}

/** Module -> device of a split. */
export function splitMap(
  { groups }: StageCosts,
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

function memoryOf(devices: readonly PlanDevice[]): number[] {
  return devices.map(({ memory }) => memory)
}

function costOf(needs: NeedsOf, devices: readonly PlanDevice[]): CostOf {
  return (device, first, end) => {
    const { memory, read } = needs(first, end)
    return { memory, time: read / (devices[device]?.speed ?? 1) }
  }
}
