import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, type ModelPlan, planModel } from '../../../src/index'
import { golden, greedyTokens, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-gptq-int4-g128'
const directory = modelDirectory(name)
const sizes = { maxModelLength: 64, maxSequences: 2 }

test('a plan is loaded as it was made, also after a round trip through JSON', async () => {
  const plan = await planModel(directory, {
    ...sizes,
    dtype: 'float32',
    deviceMap: 'balanced',
    devices: ['cpu:0', 'cpu:1'],
  })
  await using model = await loadModel(directory, { plan: JSON.parse(JSON.stringify(plan)) as ModelPlan })
  expect(model.deviceMap).toEqual(plan.deviceMap)
  expect(new Set(Object.values(plan.deviceMap)).size).toBe(2)
  expect(model.memory()).toMatchObject(
    plan.stages.map(({ device, weights, kvCache, states, buffers }) => ({ device, weights, kvCache, states, buffers })),
  )
  const { prompts, greedy } = golden(name)
  expect(await greedyTokens(model, prompts.p33)).toEqual(greedy.p33)
})

describe('refused beside a plan', () => {
  test.each<[string, LoadOptions, RegExp]>([
    ['a device map', { deviceMap: 'cpu' }, /deviceMap cannot be combined with plan/],
    ['devices', { devices: ['cpu'] }, /devices cannot be combined with plan/],
    ['budgets', { maxMemory: { cpu: '1GiB' } }, /maxMemory cannot be combined with plan/],
    ['another size', { maxSequences: 3 }, /maxSequences is 3, but the plan was made for 2/],
    [
      'a size that it was made without',
      { maxCacheTokens: 64 },
      /maxCacheTokens is 64, but the plan was made without it/,
    ],
    ['another type', { dtype: 'float32' }, /dtype is "float32", but the plan was made for "auto"/],
  ])('%s', async (_what, options, message) => {
    const plan = await planModel(directory, sizes)
    await expect(loadModel(directory, { plan, ...options })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(message),
    })
  })

  test('does not include the same sizes again', async () => {
    const plan = await planModel(directory, sizes)
    await using model = await loadModel(directory, { plan, ...sizes, dtype: 'auto' })
    expect(model.deviceMap).toEqual(plan.deviceMap)
  })
})

test.each([null, {}, { deviceMap: { '': 'cpu' } }, 'auto'])('%j is not a plan', async (plan) => {
  await expect(loadModel(directory, { plan: plan as unknown as ModelPlan })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/^plan is .*, but must be what planModel\(\) returned/),
  })
})

test("another model's plan is refused by its modules", async () => {
  const plan = await planModel('Qwen-72B-Chat-Int8', { deviceMap: 'cpu' })
  await expect(loadModel(directory, { plan })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/this model has no module "transformer.wte"/),
  })
})

test('a plan that does not fit is not loaded', async () => {
  const plan = await planModel(directory, { ...sizes, maxMemory: { cpu: '1MiB' } })
  expect(plan.fits).toBe(false)
  await expect(loadModel(directory, { plan })).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
})
