import { describe, expect, test } from 'vitest'
import { BlockPool } from '../../../src/pipeline/block-pool'
import { Random } from '../../support/random.cjs'

describe('BlockPool', () => {
  /** A pool whose blocks 0, 1, ... have the keys 'a', 'b', ... and are held once. */
  function filled(keys: string, blockCount = keys.length) {
    const pool = new BlockPool(4, blockCount)
    const blocks = pool.allocate(keys.length)
    for (const [i, block] of blocks.entries()) pool.register(block, keys[i] as string)
    return { pool, blocks }
  }

  test('hands out low numbers first, and what was returned without a key before others', () => {
    const pool = new BlockPool(4, 4)
    expect(pool.allocate(2)).toEqual([0, 1])
    pool.free([0, 1])
    expect(pool.allocate(3)).toEqual([0, 1, 2])
    expect(pool.available).toBe(1)
    expect(() => pool.allocate(2)).toThrow(/2 KV blocks were requested, but only 1 are free/)
  })

  test('has a block free when none of its holders is left', () => {
    const { pool } = filled('ab')
    pool.hold(0)
    expect(pool.isShared(0)).toBe(true)
    pool.free([0, 1])
    expect([pool.available, pool.isShared(0)]).toEqual([1, false])
    pool.free([0])
    expect(pool.available).toBe(2)
  })

  test('finds a free block until it is handed out again', () => {
    const { pool } = filled('ab')
    pool.free([0, 1])
    expect([pool.find('a'), pool.find('b'), pool.keyed]).toEqual([0, 1, 2])
    expect(pool.allocate(1)).toEqual([1])
    expect([pool.find('a'), pool.find('b'), pool.keyed]).toEqual([0, undefined, 1])
    pool.register(1, 'c')
    expect(pool.find('c')).toBe(1)
  })

  test('hands out blocks without a key, then those free for the longest time, the deepest of a table first', () => {
    const { pool } = filled('abcdef', 8)
    pool.free([0, 1, 2])
    pool.free([3, 4])
    pool.hold(1) // leaves the middle of the list
    pool.free([1]) // and is the last one now
    pool.free([5])
    expect(pool.allocate(8)).toEqual([6, 7, 2, 0, 4, 3, 1, 5])
    expect(pool.keyed).toBe(0)
  })

  test('finds one of two blocks with the same content; the other one has no key', () => {
    const { pool } = filled('a', 3)
    const [second] = pool.allocate(1) as [number]
    pool.register(second, 'a')
    expect([pool.find('a'), pool.keyed]).toEqual([0, 1])
    pool.free([0])
    pool.free([second])
    expect(pool.allocate(3)).toEqual([second, 2, 0])
  })

  test('does not find a forgotten block, whoever holds it', () => {
    const { pool } = filled('ab')
    pool.hold(0)
    pool.forget([0])
    expect([pool.find('a'), pool.find('b')]).toEqual([undefined, 1])
    pool.free([0, 1])
    pool.free([0])
    expect(pool.allocate(2)).toEqual([0, 1])
  })

  test('counts what tables that share blocks would free', () => {
    const { pool } = filled('abcd')
    pool.hold(0)
    pool.hold(0)
    pool.hold(1)
    expect(pool.freedBy([])).toBe(0)
    expect(pool.freedBy([[0, 1, 2]])).toBe(1)
    expect(
      pool.freedBy([
        [0, 1, 2],
        [0, 1],
      ]),
    ).toBe(2)
    expect(pool.freedBy([[0, 1, 2], [0, 1], [0]])).toBe(3)
  })

  test('does what a plain list of blocks would do', () => {
    const random = new Random(3)
    const count = 12
    const pool = new BlockPool(4, count)
    const holders = Array<number>(count).fill(0)
    const keys = new Map<string, number>()
    let order: number[] = [] // free blocks with a key
    const held = () => [...holders.keys()].filter((block) => (holders[block] as number) > 0)
    for (let i = 0; i < 4000; i++) {
      const free = holders.filter((number) => number === 0).length
      expect(pool.available).toBe(free)
      expect(pool.keyed).toBe(keys.size)
      const [action, key] = [random.below(5), String(random.below(16))]
      if (action === 0 && free > 0) {
        const [block] = pool.allocate(1) as [number]
        expect(holders[block]).toBe(0)
        if (free === order.length) expect(block).toBe(order[0])
        else expect(order).not.toContain(block)
        order = order.filter((other) => other !== block)
        for (const [of, other] of keys) if (other === block) keys.delete(of)
        holders[block] = 1
      } else if (action === 1 && keys.has(key)) {
        const block = keys.get(key) as number
        expect(pool.find(key)).toBe(block)
        pool.hold(block)
        order = order.filter((other) => other !== block)
        holders[block] = (holders[block] as number) + 1
      } else if (action === 2) {
        const block = held().find((one) => ![...keys.values()].includes(one))
        if (block === undefined) continue
        pool.register(block, key)
        if (!keys.has(key)) keys.set(key, block)
      } else if (action > 2 && held().length > 0) {
        const block = random.pick(held())
        pool.free([block])
        holders[block] = (holders[block] as number) - 1
        if (holders[block] === 0 && [...keys.values()].includes(block)) order.push(block)
      }
    }
  })
})
