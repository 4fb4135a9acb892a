import { describe, expect, test } from 'vitest'
import { loadModel, planModel } from '../../../src/index'
import { presets } from '../../../src/placement/presets'
import { golden, greedyTokens, modelDirectory } from '../../support/fixtures'

const GiB = 2 ** 30
const name = 'qwen2-gptq-int4-g128'
const sizes = { maxModelLength: 64, maxSequences: 2 }

test.each(Object.keys(presets))('%s is planned by its name', async (preset) => {
  const { stages, fits } = await planModel(preset, { devices: ['cuda:0', 'cuda:1'], maxModelLength: 4096 })
  expect(fits).toBe(true)
  expect(stages).toHaveLength(2)
  for (const { total, weights, kvCache, states, buffers, overhead } of stages) {
    expect(overhead).toBe(512 * 2 ** 20)
    expect(total).toBe(weights + kvCache + states + buffers + overhead)
  }
})

describe('what CUDA itself takes', () => {
  const sizes = { maxModelLength: 4096, maxSequences: 1 }
  const taken = async (options: Parameters<typeof planModel>[1]) =>
    (await planModel('Qwen3-8B', { ...sizes, ...options })).stages.map(({ device, overhead }) => [device, overhead])

  test('is counted once a device, and by the option', async () => {
    const split = { 'model.layers.0': 1, '': 0, lm_head: 'cpu' }
    expect(await taken({ deviceMap: split, deviceOverhead: '1KiB' })).toEqual([
      ['cuda:0', 1024],
      ['cuda:1', 1024],
      ['cuda:0', 0],
      ['cpu', 0],
    ])
    expect(await taken({ deviceMap: split, deviceOverhead: { 0: 3, cpu: 4 } })).toEqual([
      ['cuda:0', 3],
      ['cuda:1', 512 * 2 ** 20],
      ['cuda:0', 0],
      ['cpu', 4],
    ])
  })

  test('leaves that much less memory for layers, to the byte', async () => {
    const placed = (memory: number, deviceOverhead: number) =>
      planModel('Qwen3-8B', { ...sizes, devices: [{ device: 0, memory }, 'cpu'], deviceOverhead })
    const [stage] = (await placed(10 * GiB, 0)).stages
    const full = stage?.total as number
    const [exact, short] = [await placed(full + 1000, 1000), await placed(full + 1000, 1001)]
    expect(exact.stages[0]).toMatchObject({ modules: stage?.modules, total: full + 1000 })
    expect(short.stages[0]?.modules.length).toBe((stage?.modules.length ?? 0) - 1)
    expect(short.explanation.join(' ')).toContain('CUDA itself needs about 0.00 MiB on cuda:0')
  })

  test('is refused if it is not a size', async () => {
    await expect(taken({ deviceOverhead: 'much' })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringContaining('deviceOverhead is "much", but must be a size'),
    })
    await expect(taken({ deviceOverhead: { gpu: 1 } })).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  })
})

test('known sizes: Qwen2-72B has 72.7 billion parameters, two bytes each in bf16', async () => {
  const { stages } = await planModel('Qwen2-72B-Instruct', { deviceMap: 'cpu' })
  expect((stages[0]?.weights ?? 0) / 2e9).toBeCloseTo(72.7, 1)
})

test('a directory is planned from its headers, and loads as planned', async () => {
  const options = { ...sizes, devices: ['cpu:0', 'cpu:1'], maxMemory: { 'cpu:0': '12MiB', 'cpu:1': '12MiB' } }
  const plan = await planModel(modelDirectory(name), { ...options, deviceMap: 'auto' })
  expect(plan.fits).toBe(true)
  await using model = await loadModel(modelDirectory(name), { ...options, deviceMap: 'auto' })
  expect(model.deviceMap).toEqual(plan.deviceMap)
  expect(model.memory()).toMatchObject(
    plan.stages.map(({ device, weights, kvCache, buffers }) => ({ device, weights, kvCache, buffers })),
  )
  const { prompts, greedy } = golden(name)
  expect(await greedyTokens(model, prompts.p33)).toEqual(greedy.p33)
})

test('a KV cache that sequences share is explained as such', async () => {
  const sizes = { deviceMap: 'cpu', maxModelLength: 4096, maxSequences: 8 }
  const whole = await planModel('Qwen3-8B', sizes)
  expect(whole.explanation[1]).toBe('The KV cache for 8 sequences of 4096 tokens takes 4.50 GiB of that.')
  const shared = await planModel('Qwen3-8B', { ...sizes, maxCacheTokens: 8192 })
  expect(shared.explanation[1]).toBe(
    'The KV cache for 8 sequences of 4096 tokens, which share room for 8192 tokens, takes 1.13 GiB of that.',
  )
  expect(shared.sizes.maxCacheTokens).toBe(8192)
})

describe('what does not fit', () => {
  const qwen = 'Qwen1.5-72B-Chat-GPTQ-Int4'

  test('says by how much, and which single change helps; and that change does', async () => {
    const devices = Array.from({ length: 2 }, (_, i) => ({ device: `cuda:${i}`, memory: 24 * GiB }))
    const options = { devices, maxModelLength: 8192, maxSequences: 4 }
    const plan = await planModel(qwen, options)
    expect(plan.fits).toBe(false)
    const text = plan.explanation.join(' ')
    const lacking = Math.max(
      ...[...text.matchAll(/lacks ([\d,]+) bytes/g)].map(([, n]) => Number(n?.replaceAll(',', ''))),
    )
    const more = (bytes: number) => devices.map((device) => ({ ...device, memory: device.memory + bytes }))
    expect((await planModel(qwen, { ...options, devices: more(lacking) })).fits).toBe(true)
    expect((await planModel(qwen, { ...options, devices: more(lacking - 1) })).fits).toBe(false)

    const length = Number(/maxModelLength (\d+) instead/.exec(text)?.[1])
    expect((await planModel(qwen, { ...options, maxModelLength: length })).fits).toBe(true)
    expect((await planModel(qwen, { ...options, maxModelLength: length + 1 })).fits).toBe(false)
  })

  test('a smaller shared cache counts as a change, too', async () => {
    const devices = Array.from({ length: 4 }, (_, i) => ({ device: i, memory: 24 * GiB }))
    const options = { devices, maxModelLength: 8192, maxSequences: 4 }
    const text = (await planModel(qwen, options)).explanation.join(' ')
    const cacheTokens = Number(/maxCacheTokens (\d+) instead of 32768/.exec(text)?.[1])
    expect((await planModel(qwen, { ...options, maxCacheTokens: cacheTokens })).fits).toBe(true)
    expect((await planModel(qwen, { ...options, maxCacheTokens: cacheTokens + 1 })).fits).toBe(false)
  })

  test('a model that no single change helps says so', async () => {
    const { fits, explanation } = await planModel(qwen, { devices: [{ device: 'cuda:0', memory: GiB }] })
    expect(fits).toBe(false)
    expect(explanation.at(-1)).toMatch(/No single change/)
  })

  test('is refused at load, before anything is allocated', async () => {
    const loading = loadModel(modelDirectory(name), { ...sizes, deviceMap: 'auto', maxMemory: { cpu: '1MiB' } })
    await expect(loading).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/lacks [\d,]+ bytes/),
    })
    const explicit = loadModel(modelDirectory(name), { ...sizes, deviceMap: 'cpu', maxMemory: { cpu: '1MiB' } })
    await expect(explicit).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' })
  })
})

test.each([
  [
    'no-such-model',
    {},
    /neither a checkpoint directory, a preset nor the name of a model on the Hub\. Presets are Qwen-72B-Chat/,
  ],
  ['Qwen3-8B', { devices: [] }, /devices is empty/],
  ['Qwen3-8B', { maxMemory: { cpu: 'much' } }, /maxMemory.cpu is "much"/],
  ['Qwen3-8B', { devices: ['tpu'] }, /"tpu" is not a device/],
  ['Qwen3-8B', { maxModelLength: 0 }, /maxModelLength is 0/],
  [null, {}, /must be a directory/],
])('%j with %j is refused', async (model, options, message) => {
  await expect(planModel(model as string, options)).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(message),
  })
})
