/** What a stage costs on a device. */
export interface StageCost {
  /** Bytes that it holds. */
  readonly memory: number
  /** What it takes for a step, in any unit. */
  readonly time: number
}

/** Cost of a stage of items [first, end) on device number `device`. */
export type CostOf = (device: number, first: number, end: number) => StageCost

/**
 * Splits `items` items into consecutive runs, one a device in order (a device may get none), so that every run fits its
 * device and the slowest stage is as fast as it can be. Of equally fast splits the one with the fewest stages wins, since
 * each hand-over costs time; of these the one whose stages are most even in memory (the least sum of squares).
 *
 * Dynamic programming over (devices used, items placed), twice: the slowest stage of the best split is found first,
 * because fewest stages and most even memory are only sums once it bounds every stage. O(devices * items^2).
 * @param budgets bytes of each device; Infinity for no limit
 * @returns for each device the end of its run (ends[d] = items placed on devices 0..d), or undefined if nothing fits
 */
export function partition(items: number, budgets: readonly number[], costOf: CostOf): number[] | undefined {
  const slowest = fastestSlowest(items, budgets, costOf)
  return slowest === undefined ? undefined : mostEven(items, budgets, costOf, slowest)
}

/** The time of the slowest stage in the best split, or undefined if nothing fits. */
export function fastestSlowest(items: number, budgets: readonly number[], costOf: CostOf): number | undefined {
  let best: number[] = Array.from({ length: items + 1 }, (_, placed) => (placed === 0 ? 0 : Number.POSITIVE_INFINITY))
  for (const [device, budget] of budgets.entries()) {
    const next = [...best]
    for (let first = 0; first < items; first++) {
      const before = best[first] as number
      if (before === Number.POSITIVE_INFINITY) continue
      for (let end = first + 1; end <= items; end++) {
        const { memory, time } = costOf(device, first, end)
        if (memory <= budget) next[end] = Math.min(next[end] as number, Math.max(before, time))
      }
    }
    best = next
  }
  const slowest = best[items]
  return slowest === Number.POSITIVE_INFINITY ? undefined : slowest
}

interface Split {
  readonly stages: number
  /** Sum of the squares of the stages' bytes. */
  readonly squares: number
  readonly ends: readonly number[]
}

/** The split with the fewest stages, then the most even ones, none of them slower than `slowest`. */
function mostEven(items: number, budgets: readonly number[], costOf: CostOf, slowest: number): number[] | undefined {
  let best: (Split | undefined)[] = Array.from({ length: items + 1 }, () => undefined)
  best[0] = { stages: 0, squares: 0, ends: [] }
  for (const [device, budget] of budgets.entries()) {
    const next = best.map((split, placed) => split && { ...split, ends: [...split.ends, placed] })
    for (const [first, split] of best.entries()) {
      if (!split) continue
      for (let end = first + 1; end <= items; end++) {
        const { memory, time } = costOf(device, first, end)
        if (memory > budget || time > slowest) continue
        const stages = split.stages + 1
        const squares = split.squares + memory ** 2
        const other = next[end]
        if (other && (other.stages < stages || (other.stages === stages && other.squares <= squares))) continue
        next[end] = { stages, squares, ends: [...split.ends, end] }
      }
    }
    best = next
  }
  const complete = best[items]
  return complete && [...complete.ends]
}
