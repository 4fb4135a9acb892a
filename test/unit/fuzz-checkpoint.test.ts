import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openCheckpoint } from '../../src/checkpoint/checkpoint'
import { loadModel } from '../../src/index'

it('opens or refuses 2000 damaged checkpoints, and never fails otherwise', { timeout: 120_000 }, async () => {
  const { fuzzCheckpoints } = await import('../fuzz/checkpoint-fuzzer.mjs')
  const rssBefore = process.memoryUsage.rss()
  const { cases, opened } = await fuzzCheckpoints({
    models: join(__dirname, '../fixtures/models'),
    openCheckpoint,
    seed: 1,
    more: (done) => done < 2000,
  })
  expect(cases).toBe(2000)
  // Both must happen often, or the damage is too heavy or too light to test anything.
  expect(opened).toBeGreaterThan(200)
  expect(cases - opened).toBeGreaterThan(800)
  expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(600 * 2 ** 20)
})

it('loads and runs, or refuses, 1000 damaged checkpoints natively', { timeout: 120_000 }, async () => {
  const { fuzzCheckpoints } = await import('../fuzz/checkpoint-fuzzer.mjs')
  const { loadAndRun } = await import('../fuzz/load-and-run.mjs')
  const { cases, opened } = await fuzzCheckpoints({
    models: join(__dirname, '../fixtures/models'),
    openCheckpoint,
    load: loadAndRun(loadModel),
    seed: 2,
    more: (done) => done < 1000,
  })
  expect(cases).toBe(1000)
  expect(opened).toBeGreaterThan(100)
})
