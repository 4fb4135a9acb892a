/** A mixture of experts has a hundred thousand tensors: opening, planning and loading it leave the event loop its turns. */
import { expect, test } from 'vitest'
import { loadModel } from '../../src/index'
import { manyExperts, sparseCheckpoint } from '../support/many-experts'

const directory = sparseCheckpoint(manyExperts())

/** Loads until the native side begins to read the weights. @returns the longest time without a turn, in ms */
async function longestBlock(ranks: number): Promise<number> {
  let last = performance.now()
  let longest = 0
  let immediate = setImmediate(function turn() {
    const now = performance.now()
    longest = Math.max(longest, now - last)
    last = now
    immediate = setImmediate(turn)
  })
  const controller = new AbortController()
  const loading = loadModel(directory, {
    deviceMap: Array.from({ length: ranks }, (_, rank) => `cpu:${rank}`).join(','),
    tensorParallelSize: ranks,
    maxModelLength: 64,
    maxSequences: 1,
    signal: controller.signal,
    onProgress: () => controller.abort('everything has been handed over'),
  })
  try {
    await expect(loading).rejects.toBe('everything has been handed over')
  } finally {
    clearImmediate(immediate)
  }
  return longest
}

// It is about 10 ms, where everything at once would take half a second on one rank, and several on eight.
test.each([1, 8])('on %i ranks', { timeout: 300_000 }, async (ranks) => {
  const blocks: number[] = []
  // Other processes and the collector may be due in any one of them.
  while (blocks.length < 4 && !blocks.some((time) => time < 25)) blocks.push(await longestBlock(ranks))
  expect(Math.min(...blocks), `blocked for ${blocks.map((time) => time.toFixed(1))} ms`).toBeLessThan(50)
})
