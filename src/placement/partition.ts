/** A module, or modules that stay together, as the partition sees them. */
export interface PartitionItem {
  /** Bytes that it needs wherever it is placed: weights and KV cache. */
  readonly memory: number
  /** What it adds to a step's time on a device of speed 1: bytes read a token. */
  readonly work: number
}

export interface PartitionDevice {
  /** Bytes; Infinity for no limit. */
  readonly memory: number
  /** Relative to the others; 1 is usual. */
  readonly speed: number
}

/**
 * Splits `items` into consecutive runs, one a device in order (a device may get none), so that every run fits its device
 * and the slowest stage is as fast as it can be. Of equally fast splits the one with the fewest stages wins, since each
 * hand-over costs time.
 *
 * Dynamic programming over (devices used, items placed): O(devices * items^2).
 * @param stageMemory bytes that a stage of items [first, end) needs besides its items' own: its buffers, less what
 *   items share when they are together
 * @returns for each device the end of its run (ends[d] = items placed on devices 0..d), or undefined if nothing fits
 */
export function partition(
  items: readonly PartitionItem[],
  devices: readonly PartitionDevice[],
  stageMemory: (first: number, end: number) => number,
): number[] | undefined {
  interface Best {
    readonly slowest: number
    readonly stages: number
    readonly ends: readonly number[]
  }
  const better = (a: Best, b: Best | undefined) =>
    b === undefined || a.slowest < b.slowest || (a.slowest === b.slowest && a.stages < b.stages)

  let best: (Best | undefined)[] = items.map(() => undefined)
  best.unshift({ slowest: 0, stages: 0, ends: [] })
  for (const device of devices) {
    const next = best.map((state, placed) => state && { ...state, ends: [...state.ends, placed] }) as typeof best
    for (const [first, state] of best.entries()) {
      if (!state) continue
      let memory = 0
      let work = 0
      for (let end = first + 1; end <= items.length; end++) {
        const item = items[end - 1] as PartitionItem
        memory += item.memory
        work += item.work
        if (memory + stageMemory(first, end) > device.memory) continue
        const slowest = Math.max(state.slowest, work / device.speed)
        const candidate = { slowest, stages: state.stages + 1, ends: [...state.ends, end] }
        if (better(candidate, next[end])) next[end] = candidate
      }
    }
    best = next
  }
  const complete = best[items.length]
  return complete && [...complete.ends]
}
