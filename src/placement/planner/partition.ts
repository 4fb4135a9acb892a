import { type CooperativeTask, YieldTimer } from '../../common/event-loop'

/** Cost of a stage on a device. */
export interface StageCost {
  /** Bytes it holds. */
  readonly memory: number
  /** Time per step, in any unit. */
  readonly time: number
}

/**
 * Cost of a stage of items [first, end) on device number `device`. Time never decreases with more items; memory may,
 * since a stage with both the first and the last item shares tied weights.
 */
export type CostOf = (device: number, first: number, end: number) => StageCost

/** A lower bound on the memory of a stage, monotonic in its items. */
export type MinMemory = (device: number, first: number, end: number) => number

const unknown: MinMemory = () => 0

/**
 * Splits `items` items into consecutive runs, one per device in order (possibly empty), such that every run fits its
 * device and the slowest stage is as fast as possible. Ties are broken by the fewest stages, since each handover costs
 * time, then by the most balanced memory (smallest sum of squares).
 *
 * Two passes of dynamic programming over (devices used, items placed): the first finds the bottleneck time, because
 * only with that bound the number of stages and the balance become plain sums. O(devices * items^2) in the worst case;
 * stages that are too slow or certainly too large cut the search short.
 * @param budgets bytes per device; Infinity for no limit
 * @returns for each device the end of its run (ends[d] = items placed on devices 0..d), or undefined if nothing fits
 */
export function* partition(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory = unknown,
): CooperativeTask<number[] | undefined> {
  const slowest = yield* minBottleneck(items, budgets, costOf, minMemory)
  return slowest === undefined ? undefined : yield* mostBalanced(items, budgets, costOf, minMemory, slowest)
}

/** Whether some split fits without a stage that takes longer than `maxTime`. */
export function* isFeasibleWithin(
  maxTime: number,
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory = unknown,
): CooperativeTask<boolean> {
  yield // a search calls this hundreds of times
  const reached = new Uint8Array(items + 1) // 1: reachable with the devices so far; 2: with this device
  reached[0] = 1
  let last = 0
  const timer = new YieldTimer()
  for (const [device, budget] of budgets.entries()) {
    const before = last
    for (let end = 1; end <= items; end++) {
      if (minMemory(device, Math.min(before, end - 1), end) > budget && end > before) break
      if (reached[end] === 1) continue
      // Shortest run first: it needs the least memory.
      for (let first = Math.min(before, end - 1); first >= 0; first--) {
        if (timer.isDue()) yield
        if (minMemory(device, first, end) > budget) break
        if (reached[first] !== 1) continue
        const { memory, time } = costOf(device, first, end)
        if (time > maxTime) break
        if (memory > budget) continue
        reached[end] = 2
        last = Math.max(last, end)
        break
      }
    }
    for (let end = 1; end <= items; end++) if (reached[end] === 2) reached[end] = 1
  }
  return reached[items] === 1
}

/** Time of the slowest stage of the best split, or undefined if nothing fits. */
function* minBottleneck(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory: MinMemory,
): CooperativeTask<number | undefined> {
  if (!(yield* isFeasibleWithin(Number.POSITIVE_INFINITY, items, budgets, costOf, minMemory))) return undefined
  const bound = yield* bottleneckUpperBound(items, budgets, costOf, minMemory)
  const timer = new YieldTimer()
  let best: number[] = Array.from({ length: items + 1 }, (_, placed) => (placed === 0 ? 0 : Number.POSITIVE_INFINITY))
  for (const [device, budget] of budgets.entries()) {
    const next = [...best]
    for (let first = 0; first < items; first++) {
      const before = best[first] as number
      if (before === Number.POSITIVE_INFINITY) continue
      for (let end = first + 1; end <= items; end++) {
        if (timer.isDue()) yield
        if (minMemory(device, first, end) > budget) break
        const { memory, time } = costOf(device, first, end)
        if (time > bound) break
        if (memory <= budget) next[end] = Math.min(next[end] as number, Math.max(before, time))
      }
    }
    best = next
  }
  return best[items]
}

/** An upper bound close to the bottleneck time of the best split, by bisection. */
function* bottleneckUpperBound(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory: MinMemory,
): CooperativeTask<number> {
  let high = Math.max(...budgets.map((_, device) => costOf(device, 0, items).time))
  let low = 0
  for (let i = 0; i < 10; i++) {
    const middle = (low + high) / 2
    if (yield* isFeasibleWithin(middle, items, budgets, costOf, minMemory)) high = middle
    else low = middle
  }
  return high
}

interface Split {
  readonly stages: number
  /** Sum of the squares of the stages' bytes. */
  readonly squares: number
  readonly ends: readonly number[]
}

/** The split with the fewest stages, then the maxTime balanced one, among those with no stage slower than `slowest`. */
function* mostBalanced(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory: MinMemory,
  slowest: number,
): CooperativeTask<number[] | undefined> {
  const timer = new YieldTimer()
  let best: (Split | undefined)[] = Array.from({ length: items + 1 }, () => undefined)
  best[0] = { stages: 0, squares: 0, ends: [] }
  for (const [device, budget] of budgets.entries()) {
    const next = best.map((split, placed) => split && { ...split, ends: [...split.ends, placed] })
    for (const [first, split] of best.entries()) {
      if (!split) continue
      for (let end = first + 1; end <= items; end++) {
        if (timer.isDue()) yield
        if (minMemory(device, first, end) > budget) break
        const { memory, time } = costOf(device, first, end)
        if (time > slowest) break
        if (memory > budget) continue
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
