import { type CooperativeTask, YieldTimer } from '../../event-loop'

/** What a stage costs on a device. */
export interface StageCost {
  /** Bytes that it holds. */
  readonly memory: number
  /** What it takes for a step, in any unit. */
  readonly time: number
}

/**
 * Cost of a stage of items [first, end) on device number `device`. More items never take less time; they may take less
 * memory, since a stage with the first and the last item shares what only these have in common.
 */
export type CostOf = (device: number, first: number, end: number) => StageCost

/** Bytes that the stage holds at least; more items never lower this bound. */
export type MinMemory = (device: number, first: number, end: number) => number

const unknown: MinMemory = () => 0

/**
 * Splits `items` items into consecutive runs, one a device in order (a device may get none), so that every run fits its
 * device and the slowest stage is as fast as it can be. Of equally fast splits the one with the fewest stages wins, since
 * each hand-over costs time; of these the one whose stages are most even in memory (the least sum of squares).
 *
 * Dynamic programming over (devices used, items placed), twice: the slowest stage of the best split is found first,
 * because fewest stages and most even memory are only sums once it bounds every stage. O(devices * items^2) at worst; a
 * stage that is too slow or surely too large ends the search for longer ones.
 * @param budgets bytes of each device; Infinity for no limit
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

/** Whether there is a split that fits, without a stage that takes longer than `most`. */
export function* isFeasibleWithin(
  most: number,
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory = unknown,
): CooperativeTask<boolean> {
  yield // a search may call this some hundred times, each of which looks at little
  const reached = new Uint8Array(items + 1) // by the devices so far
  reached[0] = 1
  let last = 0
  const pace = new YieldTimer()
  for (const [device, budget] of budgets.entries()) {
    const before = last
    for (let end = 1; end <= items; end++) {
      if (minMemory(device, Math.min(before, end - 1), end) > budget && end > before) break
      if (reached[end] === 1) continue
      // The shortest run first, which needs least.
      for (let first = Math.min(before, end - 1); first >= 0; first--) {
        if (pace.isDue()) yield
        if (minMemory(device, first, end) > budget) break
        if (reached[first] !== 1) continue // or 2: by this device
        const { memory, time } = costOf(device, first, end)
        if (time > most) break
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

/** The time of the slowest stage in the best split, or undefined if nothing fits. */
function* minBottleneck(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory: MinMemory,
): CooperativeTask<number | undefined> {
  if (!(yield* isFeasibleWithin(Number.POSITIVE_INFINITY, items, budgets, costOf, minMemory))) return undefined
  const enough = yield* bottleneckUpperBound(items, budgets, costOf, minMemory)
  const pace = new YieldTimer()
  let best: number[] = Array.from({ length: items + 1 }, (_, placed) => (placed === 0 ? 0 : Number.POSITIVE_INFINITY))
  for (const [device, budget] of budgets.entries()) {
    const next = [...best]
    for (let first = 0; first < items; first++) {
      const before = best[first] as number
      if (before === Number.POSITIVE_INFINITY) continue
      for (let end = first + 1; end <= items; end++) {
        if (pace.isDue()) yield
        if (minMemory(device, first, end) > budget) break
        const { memory, time } = costOf(device, first, end)
        if (time > enough) break
        if (memory <= budget) next[end] = Math.min(next[end] as number, Math.max(before, time))
      }
    }
    best = next
  }
  return best[items]
}

/** A little more than the time of the slowest stage in the best split, of those that there are. */
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

/** The split with the fewest stages, then the most even ones, none of them slower than `slowest`. */
function* mostBalanced(
  items: number,
  budgets: readonly number[],
  costOf: CostOf,
  minMemory: MinMemory,
  slowest: number,
): CooperativeTask<number[] | undefined> {
  const pace = new YieldTimer()
  let best: (Split | undefined)[] = Array.from({ length: items + 1 }, () => undefined)
  best[0] = { stages: 0, squares: 0, ends: [] }
  for (const [device, budget] of budgets.entries()) {
    const next = best.map((split, placed) => split && { ...split, ends: [...split.ends, placed] })
    for (const [first, split] of best.entries()) {
      if (!split) continue
      for (let end = first + 1; end <= items; end++) {
        if (pace.isDue()) yield
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
