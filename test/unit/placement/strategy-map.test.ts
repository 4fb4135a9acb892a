import { describe, expect, test } from 'vitest'
import { runSync } from '../../../src/common/event-loop'
import { type PlanOptions, planModel } from '../../../src/index'
import { createModel } from '../../../src/models/registry'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { storedModules } from '../../../src/placement/accelerate/stored-modules'
import { configSource } from '../../../src/placement/config-source'
import { readQuantizationConfig } from '../../../src/quantization/config'
import { type CountedModel, deviceMapCases as fixture } from '../../support/device-map-cases'
import { modelDirectory } from '../../support/fixtures'

const gptq = (bits: 4 | 8) => ({ quant_method: 'gptq', bits, group_size: 128, sym: true, desc_act: false })
const storages: Record<string, object> = {
  fp16: {},
  'gptq-int4': { quantization_config: gptq(4) },
  'gptq-int8': { quantization_config: gptq(8) },
}

/** Those whose sizes follow from a released config.json; 'int8' and 'int4' are made of fp16 while loading. */
const models = Object.entries(fixture.models).filter(
  ([, { config, storage }]) => storage in storages && config.model_type !== 'qwen3_moe',
)
const configOf = ({ config, storage }: CountedModel) => ({ ...config, torch_dtype: 'float16', ...storages[storage] })

describe('a model as accelerate counts it', () => {
  test.each(models)('%s', (_name, fixtureModel) => {
    const config = configOf(fixtureModel) as ReturnType<typeof configOf> & { quantization_config?: object }
    const value = config.quantization_config
    const source = configSource(config, readQuantizationConfig([{ where: 'test', name: 'config.json', value }]))
    const { modules, tied, leaves } = runSync(storedModules(createModel(config, source), source))
    for (const [module, bytes] of Object.entries(modules)) {
      expect([module, bytes]).toEqual([module, fixtureModel.module_sizes[module]])
    }
    expect(Object.values(modules).reduce((sum, bytes) => sum + bytes, 0)).toBe(fixtureModel.module_sizes[''])
    expect(tied).toEqual(fixtureModel.tied_parameters)
    expect(leaves).toEqual(fixtureModel.leaves)
  })
})

describe('a checkpoint on disk', () => {
  // Biases of zeros in old AutoGPTQ files, of which config.json says nothing, are stored and counted.
  test.each([
    ['qwen2-gptq-int4-g32-desc_act', 0],
    ['qwen2-gptq-int4-asym', 0],
    ['qwen3-awq-int4-g64', 0],
    ['qwen2-ct-w4a16', 16 * 7], // a weight_shape a linear
    ['qwen2-tied-fp16', 0],
    ['qwen2-gptq-int8-g128', (128 + 384 + 384 + 128) * 2],
  ])('%s is counted by its tensors', async (name, more) => {
    const checkpoint = await openCheckpoint(modelDirectory(name))
    const source = configSource(checkpoint.config, checkpoint.quantization)
    const fromTensors = runSync(storedModules(createModel(checkpoint.config, checkpoint), checkpoint)).modules
    const fromConfig = runSync(storedModules(createModel(checkpoint.config, source), source)).modules
    for (const [module, bytes] of Object.entries(fromConfig)) {
      const layer = module.includes('.layers.')
      expect([module, fromTensors[module]]).toEqual([module, bytes + (layer ? more : 0)])
    }
  })
})

describe("planModel gives accelerate's answer", () => {
  const known = new Map(models)
  const cases = fixture.cases.filter(({ model, strategy }) => known.has(model) && strategy !== 'auto')

  test('for many cases', () => expect(cases.length).toBeGreaterThan(30))

  test.each(cases.map((c) => [c.id, c.model, c.strategy, c] as const))('case %s: %s, %s', async (...row) => {
    const { model, strategy, max_memory, device_map } = row[3]
    const plan = await planModel(configOf(known.get(model) as CountedModel), {
      deviceMap: strategy,
      maxMemory: max_memory,
      maxModelLength: 32,
    })
    const prefixes = Object.keys(device_map).sort((a, b) => b.length - a.length)
    const device = (module: string) =>
      device_map[prefixes.find((prefix) => prefix === '' || `${module}.`.startsWith(`${prefix}.`)) as string]
    for (const [module, placed] of Object.entries(plan.deviceMap)) {
      const expected = device(module)
      expect([module, placed]).toEqual([module, typeof expected === 'number' ? `cuda:${expected}` : expected])
    }
  })
})

describe('strategies over billfish devices', () => {
  const GiB = 2 ** 30
  const place = async (options: PlanOptions) => {
    const plan = await planModel('Qwen2.5-7B-Instruct', { maxModelLength: 1024, ...options })
    return { ...plan, devices: [...new Set(Object.values(plan.deviceMap))] }
  }

  test('CPU devices are treated as GPUs are, and names are translated back', async () => {
    const cpus = await place({ deviceMap: 'balanced', devices: ['cpu:3', 'cpu:1'], maxMemory: { 'cpu:3': '9GiB' } })
    const gpus = await place({ deviceMap: 'balanced', devices: ['cuda:0', 'cuda:1'], maxMemory: { 0: '9GiB' } })
    expect(cpus.devices).toEqual(['cpu:3', 'cpu:1'])
    const renamed = Object.values(gpus.deviceMap).map((device) => (device === 'cuda:0' ? 'cpu:3' : 'cpu:1'))
    expect(Object.values(cpus.deviceMap)).toEqual(renamed)
  })

  test('a CPU after GPUs takes only what does not fit on them', async () => {
    const devices = ['cuda:0', 'cuda:1', 'cpu']
    const roomy = await place({ deviceMap: 'balanced', devices, maxMemory: { 0: 20 * GiB, 1: 20 * GiB } })
    expect(roomy.devices).toEqual(['cuda:0', 'cuda:1'])
    const tight = await place({ deviceMap: 'balanced', devices, maxMemory: { 0: 5 * GiB, 1: 5 * GiB } })
    expect(tight.devices).toEqual(['cuda:0', 'cuda:1', 'cpu'])
    expect(tight.deviceMap.lm_head).toBe('cpu')
    await expect(place({ deviceMap: 'balanced', devices: ['cuda:0', 'cpu:0', 'cpu:1'] })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
      message: expect.stringMatching(/cpu:0 and cpu:1 come after cuda:0/),
    })
  })

  test('without budgets: equal shares, none on a first device to spare, or all on the first', async () => {
    const devices = ['cuda:0', 'cuda:1', 'cuda:2']
    expect((await place({ deviceMap: 'balanced', devices })).devices).toEqual(devices)
    expect((await place({ deviceMap: 'balanced_low_0', devices })).devices).toEqual(['cuda:1', 'cuda:2'])
    expect((await place({ deviceMap: 'sequential', devices })).devices).toEqual(['cuda:0'])
  })

  test('says what it counts and, if the model does not really fit, by how much and what auto does', async () => {
    const options = { devices: ['cuda:0', 'cuda:1'], maxMemory: { 0: 10 * GiB, 1: 10 * GiB } }
    const { fits, explanation } = await place({ ...options, deviceMap: 'sequential', maxModelLength: 8192 })
    expect(fits).toBe(false)
    const text = explanation.join(' ')
    expect(text).toMatch(/as accelerate does, which counts the 14.19 GiB of weights in the checkpoint alone/)
    expect(text).toMatch(/lacks [\d,]+ bytes/)
    expect(text).toMatch(/deviceMap 'auto' would fit: cuda:0 model.embed_tokens, model.layers.0 to \d+ \(/)
    expect((await place({ ...options, maxModelLength: 8192 })).fits).toBe(true)
  })

  test('says what would help auto if that does not fit either', async () => {
    const options = { devices: ['cuda:0', 'cuda:1'], maxMemory: { 0: '8GiB', 1: '8GiB' }, maxModelLength: 32768 }
    const text = (await place({ ...options, deviceMap: 'balanced' })).explanation.join(' ')
    const auto = (await place({ ...options, deviceMap: 'auto' })).explanation.join(' ')
    const lacks =
      /'auto' over cuda:0 and cuda:1 does not fit either: the fullest device would lack ([\d,]+) bytes/.exec(text)
    expect(auto).toContain(`lacks ${lacks?.[1]} bytes`)
    const help = /Each of these alone would make it fit: maxModelLength \d+ instead of 32768.*/
    expect(help.exec(text)?.[0]).toBe(help.exec(auto)?.[0])
  })
})
