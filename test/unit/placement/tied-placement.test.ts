import { describe, expect, test } from 'vitest'
import { loadModel, planModel } from '../../../src/index'
import { golden, greedyTokens, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-tied-fp16'
const directory = modelDirectory(name)
const sizes = { maxModelLength: 64, maxSequences: 2 }
const tableBytes = 320 * 128 * 2

describe('a tied head', () => {
  test('is held once in one stage', async () => {
    const { stages, explanation } = await planModel(directory, { ...sizes, deviceMap: 'cpu' })
    expect(stages).toHaveLength(1)
    expect(explanation.join(' ')).toMatch(/in the same stage: their 0.08 MiB are stored once/)
  })

  // On cpu:0 again the head has a stage of its own, and with it a table of its own.
  test.each([
    ['another device', { '': 'cpu:0', 'model.norm': 'cpu:1', lm_head: 'cpu:1' }, 'cpu:0 and cpu:1'],
    ['the same device, but another stage', { '': 'cpu:0', 'model.layers': 'cpu:1', 'model.norm': 'cpu:1' }, 'cpu:0'],
  ])('is held twice on %s, as planned and explained', async (_where, deviceMap, devices) => {
    const once = await planModel(directory, { ...sizes, deviceMap: 'cpu' })
    const plan = await planModel(directory, { ...sizes, deviceMap })
    const weights = (stages: typeof plan.stages) => stages.reduce((sum, stage) => sum + stage.weights, 0)
    expect(weights(plan.stages) - weights(once.stages)).toBe(tableBytes)
    expect(plan.explanation.join(' ')).toContain(`their 0.08 MiB are stored twice, on ${devices}, and counted twice.`)

    await using model = await loadModel(directory, { plan })
    const allocated = model.memory()
    const planned = new Map<string, number>()
    for (const { device, total } of plan.stages) planned.set(device, (planned.get(device) ?? 0) + total)
    const found = new Map<string, number>()
    for (const { device, weights, kvCache, buffers } of allocated) {
      found.set(device, (found.get(device) ?? 0) + weights + kvCache + buffers)
    }
    expect(found).toEqual(planned)
    const { prompts, greedy } = golden(name)
    expect(await greedyTokens(model, prompts.p33)).toEqual(greedy.p33)
  })

  test('is duplicated by auto only if the model has several stages, and auto says so', async () => {
    const [stage] = (await planModel(directory, { ...sizes, deviceMap: 'cpu' })).stages
    const need = stage?.total ?? 0
    // To the byte: a budget for the shared table, which two tables would exceed.
    const alone = await planModel(directory, { ...sizes, devices: [{ device: 'cpu', memory: need }] })
    expect(alone.fits).toBe(true)
    expect(alone.explanation.join(' ')).toMatch(/stored once/)
    const apart = await planModel(directory, { ...sizes, devices: ['cpu:0', 'cpu:1'] })
    expect(apart.explanation.join(' ')).toMatch(
      /stored twice, on cpu:0 and cpu:1, and counted twice\. To store them once, one stage would have to be the whole model/,
    )
    expect(apart.explanation.join(' ')).toMatch(/take \d+\.\d+ MiB and read \d+\.\d+ MiB a token/)
  })

  test('goes with the embedding where accelerate counts it there', async () => {
    const { deviceMap } = await planModel(directory, { ...sizes, deviceMap: 'balanced', devices: ['cpu:0', 'cpu:1'] })
    expect(deviceMap['model.norm']).toBe('cpu:1')
    expect(deviceMap.lm_head).toBe('cpu:0')
  })
})
