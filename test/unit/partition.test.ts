import { describe, expect, test } from 'vitest'
import { type PartitionDevice, type PartitionItem, partition } from '../../src/placement/partition'

const items = (...work: number[]): PartitionItem[] => work.map((value) => ({ work: value, memory: value }))
const device = (memory: number, speed = 1): PartitionDevice => ({ memory, speed })
const none = () => 0

test('even work is split evenly', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10)], none)).toEqual([3, 6])
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10), device(10)], none)).toEqual([2, 4, 6])
})

test('a device that is twice as fast gets twice the work', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(10), device(10, 2)], none)).toEqual([2, 6])
})

test('memory goes before speed', () => {
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(2), device(10)], none)).toEqual([2, 6])
  expect(partition(items(1, 1, 1, 1, 1, 1), [device(2), device(3)], none)).toBeUndefined()
})

test('what does not make it faster is not used', () => {
  expect(partition(items(0, 5, 0), [device(9), device(9), device(9)], none)).toEqual([3, 3, 3])
})

test("a stage's own buffers count", () => {
  expect(partition(items(1, 1), [device(3)], () => 2)).toBeUndefined()
  expect(partition(items(1, 1), [device(4)], () => 2)).toEqual([2])
  const onlyWithHead = (_: number, end: number) => (end === 4 ? 3 : 0)
  expect(partition(items(1, 1, 1, 1), [device(4), device(4)], onlyWithHead)).toEqual([3, 4])
})

describe('against every possible split', () => {
  // Slowest stage of the best feasible split, by trying them all.
  function bruteForce(all: PartitionItem[], devices: PartitionDevice[], buffers: number): number | undefined {
    const [head, ...rest] = devices
    if (!head) return all.length === 0 ? 0 : undefined
    let best: number | undefined
    for (let count = 0; count <= all.length; count++) {
      const mine = all.slice(0, count)
      const memory = mine.reduce((sum, item) => sum + item.memory, 0) + (count > 0 ? buffers : 0)
      if (memory > head.memory) continue
      const others = bruteForce(all.slice(count), rest, buffers)
      if (others === undefined) continue
      const slowest = Math.max(others, mine.reduce((sum, item) => sum + item.work, 0) / head.speed)
      if (best === undefined || slowest < best) best = slowest
    }
    return best
  }

  test('300 random cases', () => {
    let state = 1
    const random = (below: number) => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      return Math.floor((state / 2 ** 32) * below)
    }
    let feasible = 0
    for (let round = 0; round < 300; round++) {
      const all = Array.from({ length: 1 + random(7) }, () => ({ memory: random(6), work: random(6) }))
      const devices = Array.from({ length: 1 + random(4) }, () => device(2 + random(14), 1 + random(3)))
      const buffers = random(3)
      const ends = partition(all, devices, () => buffers)
      const expected = bruteForce(all, devices, buffers)
      if (expected === undefined) {
        expect(ends, `round ${round}`).toBeUndefined()
        continue
      }
      feasible++
      let first = 0
      let slowest = 0
      for (const [i, end] of (ends as number[]).entries()) {
        const mine = all.slice(first, end)
        const { memory, speed } = devices[i] as PartitionDevice
        const used = mine.reduce((sum, item) => sum + item.memory, 0) + (mine.length > 0 ? buffers : 0)
        expect(used, `round ${round}`).toBeLessThanOrEqual(memory)
        slowest = Math.max(slowest, mine.reduce((sum, item) => sum + item.work, 0) / speed)
        first = end
      }
      expect(first).toBe(all.length)
      expect(slowest, `round ${round}`).toBeCloseTo(expected, 9)
    }
    expect(feasible).toBeGreaterThan(100)
  })
})
