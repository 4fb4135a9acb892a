import { join } from 'node:path'
import { beforeAll, expect, it, vi } from 'vitest'
import { loadGenerationAssets } from '../../../src/generation/assets'
import { loadModel, planModel } from '../../../src/index'
import { openCheckpoint } from '../../../src/open-checkpoint'

const models = join(__dirname, '../../fixtures/models')
const demo = join(__dirname, '../../../examples/demo-model')

beforeAll(() => {
  vi.spyOn(process, 'emitWarning').mockReturnValue() // thousands of configs that contradict their tensors
})

it('opens or refuses 2000 damaged checkpoints, and never fails otherwise', { timeout: 120_000 }, async () => {
  const { fuzzCheckpoints } = await import('../../fuzz/checkpoint-fuzzer.mjs')
  const { filesBesideWeights } = await import('../../fuzz/tokenizer-mutations.mjs')
  const rssBefore = process.memoryUsage.rss()
  const outcomes = await fuzzCheckpoints({
    models,
    files: filesBesideWeights(demo),
    ...{ openCheckpoint, planModel, loadGenerationAssets },
    seed: 1,
    more: (done) => done < 2000,
  })
  expect(outcomes.total).toBe(2000)
  // All must happen often, or the damage is too heavy or too light to test anything.
  expect(outcomes.of('planned, with texts')).toBeGreaterThan(400)
  expect(outcomes.of('INVALID_CHECKPOINT')).toBeGreaterThan(600)
  expect(outcomes.of('UNSUPPORTED_MODEL')).toBeGreaterThan(10)
  expect(process.memoryUsage.rss() - rssBefore).toBeLessThan(600 * 2 ** 20)
})

it('loads and runs, or refuses, 1000 damaged checkpoints natively', { timeout: 120_000 }, async () => {
  const { fuzzCheckpoints, loadAndRun } = await import('../../fuzz/checkpoint-fuzzer.mjs')
  const outcomes = await fuzzCheckpoints({
    models,
    ...{ openCheckpoint, planModel, loadGenerationAssets },
    load: loadAndRun(loadModel),
    seed: 2,
    more: (done) => done < 1000,
  })
  expect(outcomes.total).toBe(1000)
  expect(outcomes.of('planned')).toBeGreaterThan(100)
})
