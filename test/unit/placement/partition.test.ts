import { describe, expect, test } from 'vitest'
import { runSync } from '../../../src/common/event-loop'
import { type CostOf, isFeasibleWithin, partition as partitionByCost } from '../../../src/placement/planner/partition'
import { Random } from '../../support/random.cjs'

interface Item {
  readonly memory: number
  readonly work: number
}

interface Device {
  readonly memory: number
  readonly speed: number
}

/** Bytes that a stage of items [first, end) needs besides its items' own. */
type OwnMemory = (first: number, end: number) => number

const items = (...work: number[]): Item[] => work.map((value) => ({ work: value, memory: value }))
const device = (memory: number, speed = 1): Device => ({ memory, speed })
const none = () => 0

function costOf(all: readonly Item[], devices: readonly Device[], own: OwnMemory): CostOf {
  return (index, first, end) => {
    const mine = all.slice(first, end)
    const sum = (part: keyof Item) => mine.reduce((total, item) => total + item[part], 0)
    return { memory: sum('memory') + own(first, end), time: sum('work') / (devices[index] as Device).speed }
  }
}

function partition(all: readonly Item[], devices: readonly Device[], own: OwnMemory = none): number[] | undefined {
  const budgets = devices.map(({ memory }) => memory)
  return runSync(partitionByCost(all.length, budgets, costOf(all, devices, own)))
}

test('even work is split evenly', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10)])).toEqual([3, 6])
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10), device(10)])).toEqual([2, 4, 6])
})

test('a device that is twice as fast gets twice the work', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10, 2)])).toEqual([2, 6])
})

test('memory takes precedence over speed', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(2), device(10)])).toEqual([2, 6])
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(2), device(3)])).toBeUndefined()
  expect(partition(items(1, 1), [])).toBeUndefined()
})

test('a device that does not make it faster is not used', () => {
  expect(partition(items(0, 5, 0), [device(9), device(9), device(9)])).toEqual([3, 3, 3])
})

test('the fewest stages win even if an early part of another split is faster', () => {
  // The item of 6 bounds every split, so the first two belong together, though apart they would be faster.
  expect(partition(items(3, 3, 6), [device(9), device(9), device(9)])).toEqual([2, 3, 3])
})

test('among equally fast splits the one with more even memory wins', () => {
  const idle = [1, 5, 1, 1].map((memory) => ({ memory, work: 0 }))
  const slow = { memory: 1, work: 9 }
  expect(partition([...idle, slow], [device(8), device(8)])).toEqual([2, 5]) // 6 and 3, not 7 and 2 or 1 and 8
  expect(partition([slow, ...idle], [device(8), device(8)])).toEqual([2, 5]) // 2 and 7, as good as 7 and 2
})

test("a stage's own buffers count", () => {
  expect(partition(items(1, 1), [device(3)], () => 2)).toBeUndefined()
  expect(partition(items(1, 1), [device(4)], () => 2)).toEqual([2])
  const onlyWithHead = (_: number, end: number) => (end === 4 ? 3 : 0)
  expect(partition(items(1, 1, 1, 1), [device(4), device(4)], onlyWithHead)).toEqual([3, 4])
})

describe('against every possible split', () => {
  /** What a split is judged by, first to last: its slowest stage, its stages, its squares of memory. */
  type Score = readonly [number, number, number]

  function score(ends: readonly number[], budgets: readonly number[], cost: CostOf): Score | undefined {
    let [slowest, stages, squares] = [0, 0, 0]
    for (const [i, end] of ends.entries()) {
      const first = ends[i - 1] ?? 0
      if (first === end) continue
      const { memory, time } = cost(i, first, end)
      if (memory > (budgets[i] as number)) return undefined
      slowest = Math.max(slowest, time)
      stages++
      squares += memory ** 2
    }
    return [slowest, stages, squares]
  }

  function* allEnds(count: number, devices: number, from = 0): Generator<number[]> {
    if (devices === 1) yield [count]
    else
      for (let end = from; end <= count; end++)
        for (const rest of allEnds(count, devices - 1, end)) yield [end, ...rest]
  }

  const less = (a: Score, b: Score) => {
    const i = a.findIndex((value, at) => value !== b[at])
    return i >= 0 && (a[i] as number) < (b[i] as number)
  }

  test('500 random cases', () => {
    const numbers = new Random(1)
    const random = (below: number) => numbers.below(below)
    let feasible = 0
    for (let round = 0; round < 500; round++) {
      const all = Array.from({ length: 1 + random(7) }, () => ({ memory: random(6), work: random(6) }))
      const devices = Array.from({ length: 1 + random(4) }, () => device(2 + random(14), 2 ** random(3)))
      const buffers = random(3)
      const shared = random(2) * Math.min(all[0]?.memory ?? 0, all.at(-1)?.memory ?? 0)
      const own: OwnMemory = (first, end) => buffers - (first === 0 && end === all.length ? shared : 0)
      const budgets = devices.map(({ memory }) => memory)
      const cost = costOf(all, devices, own)

      let best: Score | undefined
      for (const ends of allEnds(all.length, devices.length)) {
        const candidate = score(ends, budgets, cost)
        if (candidate && (!best || less(candidate, best))) best = candidate
      }
      const ends = partition(all, devices, own)
      if (best) feasible++
      expect(ends && score(ends, budgets, cost), `round ${round}`).toEqual(best)
      expect(ends?.at(-1) ?? all.length).toBe(all.length)

      const least = (_: number, first: number, end: number) =>
        all.slice(first, end).reduce((sum, { memory }) => sum + memory, 0) - shared
      expect(runSync(partitionByCost(all.length, budgets, cost, least))).toEqual(ends)
      for (const bound of [undefined, least]) {
        const fits = (most: number) => runSync(isFeasibleWithin(most, all.length, budgets, cost, bound))
        expect(fits(Number.POSITIVE_INFINITY)).toBe(best !== undefined)
        if (best) expect([fits(best[0]), best[0] > 0 && fits(best[0] - 0.01)]).toEqual([true, false])
      }
    }
    expect(feasible).toBeGreaterThan(200)
  })
})

test('a thousand layers over many devices take little more than one evaluation of each possible stage', () => {
  for (const [devices, budget] of [
    [4, 260],
    [16, 1000],
    [16, 70],
    [64, 20],
  ] as const) {
    let looks = 0
    const cost: CostOf = (_, first, end) => {
      looks++
      return { memory: end - first + 1, time: end - first }
    }
    const budgets = Array.from({ length: devices }, () => budget)
    expect(runSync(partitionByCost(1000, budgets, cost, (_, first, end) => end - first))?.at(-1)).toBe(1000)
    expect(looks).toBeLessThan(1.5e6) // of 500,000 stages a device, twice
    looks = 0
    const fits = isFeasibleWithin(Number.POSITIVE_INFINITY, 1000, budgets, cost, (_, first, end) => end - first)
    expect(runSync(fits)).toBe(true)
    expect(looks).toBeLessThan(70_000)
  }
})
