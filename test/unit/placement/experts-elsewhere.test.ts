/** Experts on other devices than their layers: device maps, plans and their bytes. test/goldens has their outputs. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, type ModelPlan, planModel } from '../../../src/index'
import { resolveDeviceMap } from '../../../src/placement/device-map'
import { directoryOf } from '../../support/directories'
import { golden, greedyTokens, modelDirectory, moeModels } from '../../support/fixtures'
import { randomCheckpoint } from '../../support/random-checkpoint'
import { refusal } from '../../support/refusals'
import { sparseLayers } from '../../support/sparse-layers'

const modules = ['model.embed_tokens', 'model.layers.0', 'model.layers.1', 'model.layers.2', 'model.norm', 'lm_head']
/** Layer 1 is dense. */
const experts = new Map([0, 2].map((layer) => [`model.layers.${layer}`, `model.layers.${layer}.mlp.experts`]))
const resolve = (map: unknown) => Object.fromEntries(resolveDeviceMap(map as string, modules, experts))
const all = (device: string) => Object.fromEntries(modules.map((module) => [module, device]))

describe('a device map', () => {
  test.each([
    'model.layers.2.mlp.experts',
    'layers.2.mlp.experts',
    'model.language_model.layers.2.mlp.experts',
    'language_model.model.layers.2.mlp.experts',
    'model.layers.2.mlp.experts.1',
    'model.layers.2.mlp.experts.1.down_proj.qweight',
    'model.layers.2.mlp.experts.gate_up_proj',
  ])('places the experts of a layer by %s', (key) => {
    expect(resolve({ '': 0, [key]: 'cpu' })).toEqual({ ...all('cuda:0'), 'model.layers.2.mlp.experts': 'cpu' })
  })

  test('takes experts along with their layer unless a key places them', () => {
    expect(resolve({ '': 0, 'model.layers.2': 1 })).toEqual({ ...all('cuda:0'), 'model.layers.2': 'cuda:1' })
    expect(resolve({ '': 0, 'model.layers.2.self_attn': 1 })).toEqual({ ...all('cuda:0'), 'model.layers.2': 'cuda:1' })
    expect(resolve({ '': 'cpu', 'model.layers.0': 0, 'model.layers.0.mlp.experts': 'cpu' })).toEqual({
      ...all('cpu'),
      'model.layers.0': 'cuda:0',
      'model.layers.0.mlp.experts': 'cpu',
    })
    const parts = ['self_attn', 'input_layernorm', 'mlp.gate', 'mlp.shared_expert', 'mlp.shared_expert_gate']
    const layer = Object.fromEntries(parts.map((part) => [`model.layers.2.${part}.weight`, 1]))
    expect(resolve({ '': 0, ...layer, 'model.layers.2.mlp.experts': 'disk' })).toEqual({
      ...all('cuda:0'),
      'model.layers.2': 'cuda:1',
      'model.layers.2.mlp.experts': 'disk',
    })
  })

  test.each(['model.layers.*.mlp.experts', 'layers.*.mlp.experts', 'language_model.model.layers.*.mlp.experts'])(
    'places those of all layers by %s, dense layers left out',
    (key) => {
      const both = { 'model.layers.0.mlp.experts': 'cpu', 'model.layers.2.mlp.experts': 'cpu' }
      expect(resolve({ '': 0, [key]: 'cpu' })).toEqual({ ...all('cuda:0'), ...both })
      expect(resolve({ [key]: 'cpu', 'model.layers.2.mlp.experts': 1, '': 0 })).toEqual({
        ...all('cuda:0'),
        ...both,
        'model.layers.2.mlp.experts': 'cuda:1',
      })
    },
  )

  test('that places experts where their layer is says nothing', () => {
    expect(resolve({ '': 0, 'model.layers.2.mlp.experts': 'cuda:0' })).toEqual(all('cuda:0'))
    expect(resolve({ '': 0, 'model.layers.2.mlp': 0, 'model.layers.2.mlp.gate': 0 })).toEqual(all('cuda:0'))
  })

  test('is the same again when it is resolved', () => {
    const resolved = resolve({ '': 0, 'model.layers.2.mlp.experts': 'cpu', 'model.layers.0.mlp.experts': 1 })
    expect(resolve(resolved)).toEqual(resolved)
    expect(Object.keys(resolved)).toContain('model.layers.0.mlp.experts')
  })

  test.each([
    [
      { '': 0, 'model.layers.2.mlp.experts.0': 'cpu', 'model.layers.2.mlp.experts.1': 0 },
      /model.layers.2.mlp.experts cannot be split, but "model.layers.2.mlp.experts.0" is on cpu/,
    ],
    [
      { '': 0, 'model.layers.2.mlp': 'cpu' },
      /model.layers.2 cannot be split, but "" is on cuda:0 and "model.layers.2.mlp" on cpu. .*"model.layers.2.mlp.experts"/,
    ],
    [
      { '': 0, 'model.layers.2.mlp': 'cpu', 'model.layers.2.self_attn': 0 },
      /only its experts \("model.layers.2.mlp.experts"\) may be elsewhere/,
    ],
    [{ '': 0, 'model.layers.2.mlp.gate': 'cpu', 'model.layers.2': 0 }, /model.layers.2 cannot be split/],
    [
      { '': 0, 'model.layers.1.mlp.experts': 'cpu' },
      /"model.layers.1.mlp.experts" places experts, but model.layers.1 has none/,
    ],
    [{ '': 0, 'model.layers.3.mlp.experts': 'cpu' }, /has no module "model.layers.3.mlp.experts"/],
    [{ '': 0, 'model.layers.*.mlp': 'cpu' }, /has no module "model.layers.\*.mlp"/],
    [
      { '': 0, 'model.layers.*.mlp.experts': 'cpu', 'layers.*.mlp.experts': 1 },
      /"model.layers.\*.mlp.experts" is on cpu and "layers.\*.mlp.experts" on cuda:1/,
    ],
    [{ 'model.layers.2.mlp.experts': 'cpu' }, /leaves out 6 of 6 modules/],
  ])('%j is refused', (map, message) => {
    expect(() => resolve(map)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  test('treats the MLP of a dense layer as before', () => {
    expect(resolve({ '': 0, 'model.layers.1.mlp': 'cpu' })).toEqual({ ...all('cuda:0'), 'model.layers.1': 'cpu' })
  })
})

describe.each(moeModels)('%s', (name) => {
  const directory = modelDirectory(name)
  const layers = sparseLayers(directory)
  const ofLayers = (...devices: string[]) =>
    Object.fromEntries(
      layers.map((layer, i) => [`model.layers.${layer}.mlp.experts`, devices[i % devices.length] ?? '']),
    )

  test.each<[Record<string, string>, LoadOptions]>([
    [
      { '': 'cpu', ...ofLayers('cpu:1') },
      { maxSequences: 2, dtype: 'float32' },
    ],
    [
      { '': 'cpu', ...ofLayers('disk', 'cpu', 'cpu:1') },
      { maxSequences: 1, maxBatchTokens: 7 },
    ],
    [{ '': 'emulated:0', ...ofLayers('cpu') }, { maxSequences: 3 }],
    [
      { '': 'emulated:0', ...ofLayers('emulated:1') },
      { maxSequences: 20, dtype: 'bfloat16' },
    ],
    [
      { '': 'cpu', ...ofLayers('emulated:0') },
      { maxSequences: 2, maxBatchTokens: 33 },
    ],
    [{ '': 'emulated:0', 'model.layers.1': 'emulated:1', ...ofLayers('cpu', 'emulated:1') }, { maxSequences: 2 }],
    [{ '': 'emulated:0,emulated:1', ...ofLayers('cpu', 'emulated:1') }, { tensorParallelSize: 2 }],
    [
      { '': 'cpu', ...ofLayers('cpu:1') },
      { tensorParallelSize: 3, dtype: 'float32' },
    ],
  ])('planned in %j holds to the byte what was planned', async (deviceMap, options) => {
    const plan = await planModel(directory, { maxModelLength: 64, ...options, deviceMap })
    await using model = await loadModel(directory, { plan: JSON.parse(JSON.stringify(plan)) as ModelPlan })
    const memory = model.memory()
    for (const { device, weights, kvCache, states, buffers } of memory) {
      const own = plan.stages.filter((stage) => stage.device === device)
      const sum = (part: 'weights' | 'kvCache' | 'states' | 'buffers') =>
        own.reduce((all, stage) => all + stage[part], 0)
      expect({ weights, kvCache, states, buffers }).toEqual({
        weights: sum('weights'),
        kvCache: sum('kvCache'),
        states: sum('states'),
        buffers: sum('buffers'),
      })
    }
    expect(memory).toHaveLength(new Set(plan.stages.map(({ device }) => device)).size)
    expect(model.deviceMap).toEqual(plan.deviceMap)
  })
})

const moe = {
  model_type: 'qwen3_moe',
  torch_dtype: 'float16',
  hidden_size: 128,
  intermediate_size: 192,
  num_hidden_layers: 12,
  num_attention_heads: 4,
  num_key_value_heads: 4,
  num_experts: 5,
  num_experts_per_tok: 2,
  moe_intermediate_size: 96,
  mlp_only_layers: [3, 12, 40],
  vocab_size: 128,
  max_position_embeddings: 64,
}
const sparse = [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11]
const onCpu = Object.fromEntries(sparse.map((layer) => [`model.layers.${layer}.mlp.experts`, 'cpu']))

describe('a plan', () => {
  test('has a stage for the experts of all layers, and says what it means', async () => {
    const plan = await planModel(moe, { deviceMap: { '': 'cuda:0', ...onCpu }, maxSequences: 2 })
    const [stage, branch, ...others] = plan.stages
    expect(others).toEqual([])
    expect(stage).toMatchObject({ device: 'cuda:0', rank: 0, ranks: 1 })
    expect(stage).not.toHaveProperty('branch')
    expect(branch).toMatchObject({ device: 'cpu', branch: true, kvCache: 0, modules: Object.keys(onCpu) })
    const text = plan.explanation.join(' ')
    expect(text).toContain('cpu holds the experts of model.layers.0 to 2, the experts of model.layers.4 to 11: ')
    expect(text).toContain('cuda:0 sends cpu the inputs of its experts, and waits for their sums, once a layer.')
  })

  test('says which experts a device with layers of its own has for others', async () => {
    const deviceMap = { '': 'cuda:0', 'model.layers.11': 'cuda:1', 'model.layers.0.mlp.experts': 'cuda:1' }
    const { explanation } = await planModel(moe, { deviceMap })
    expect(explanation.join(' ')).toMatch(/cuda:1 holds model.layers.11; and the experts of model.layers.0: /)
  })

  test('counts buffers once, however many layers have their experts elsewhere', async () => {
    const planned = async (layers: readonly number[]) => {
      const map = Object.fromEntries(layers.map((layer) => [`model.layers.${layer}.mlp.experts`, 'cpu:1']))
      return (await planModel(moe, { deviceMap: { '': 'cpu', ...map }, maxSequences: 2 })).stages
    }
    // The last layer has fewer rows than the others.
    const [two, all] = [await planned([0, 11]), await planned(sparse)]
    expect(all[1]?.buffers).toBe(two[1]?.buffers)
    expect(all[0]?.buffers).toBeLessThan(two[0]?.buffers ?? 0) // where experts still need room for their values
    expect(all[1]?.weights).toBe((sparse.length / 2) * (two[1]?.weights ?? 0))
  })

  test('is on one device for all ranks', async () => {
    const planned = (device: string) =>
      planModel(moe, {
        tensorParallelSize: 2,
        deviceMap: { '': 'cuda:0,cuda:1', 'model.layers.*.mlp.experts': device },
      })
    const { stages, explanation } = await planned('cuda:1')
    expect(stages.map(({ device, rank, branch }) => [device, rank, branch])).toEqual([
      ['cuda:0', 0, undefined],
      ['cuda:1', 1, undefined],
      ['cuda:1', 0, true],
    ])
    expect(explanation.join(' ')).toContain('cuda:0 sends cuda:1 the inputs of its experts')
    const { message } = await refusal(() => planned('cuda:2,cuda:3'))
    expect(message).toMatch(
      /model.layers.0.mlp.experts is on cuda:2,cuda:3, but its layer on cuda:0,cuda:1.*one device/,
    )
  })

  test('of a model without experts refuses a key for some', async () => {
    const deviceMap = { '': 'cpu', 'model.layers.0.mlp.experts': 'cpu:1' }
    const { message } = await refusal(() => planModel(modelDirectory('qwen3-bf16'), { deviceMap }))
    expect(message).toMatch(/places experts, but model.layers.0 has none/)
    const every = { '': 'cpu', 'model.layers.*.mlp.experts': 'cpu:1' }
    const other = await refusal(() => planModel(modelDirectory('qwen3-bf16'), { deviceMap: every }))
    expect(other.message).toMatch(/has no module "model.layers.\*.mlp.experts"/)
  })
})

test('mlp_only_layers may name layers that the model does not have, as in transformers', async () => {
  const directory = directoryOf(randomCheckpoint(moe, 3))
  await using model = await loadModel(directory, { deviceMap: { '': 'cpu', ...onCpu }, maxModelLength: 32 })
  expect((await model.forward([1, 2, 3])).logits).toHaveLength(3 * 128)
})

test('sequences give the same beside others as alone, with experts on another kind of device', async () => {
  const name = 'qwen3-moe-gptq-int4'
  const { prompts, greedy } = golden(name)
  const deviceMap = {
    '': 'emulated:0',
    'model.layers.0.mlp.experts': 'cpu',
    'model.layers.1.mlp.experts': 'emulated:1',
  }
  await using model = await loadModel(modelDirectory(name), { deviceMap, dtype: 'float16', maxModelLength: 64 })
  const names = ['p7', 'p33', 'p7'] // three rows, recorded as four
  const texts = await Promise.all(names.map((prompt) => greedyTokens(model, prompts[prompt])))
  expect(texts).toEqual(names.map((prompt) => greedy[prompt]))
  expect(model.trace().stages).toEqual(['emulated:0'])
})
