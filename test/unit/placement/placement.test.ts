import { describe, expect, test } from 'vitest'
import { devices, layerSplit, loadModel } from '../../../src/index'
import { resolveDeviceMap } from '../../../src/placement/device-map'
import { modelDirectory } from '../../support/fixtures'

const modules = ['model.embed_tokens', 'model.layers.0', 'model.layers.1', 'model.layers.10', 'model.norm', 'lm_head']
const resolve = (map: unknown) => Object.fromEntries(resolveDeviceMap(map as string, modules))
const all = (device: string) => Object.fromEntries(modules.map((module) => [module, device]))

describe('deviceMap', () => {
  test('a device for everything, in every spelling', () => {
    expect(resolve('cpu')).toEqual(all('cpu'))
    expect(resolve('cuda:1')).toEqual(all('cuda:1'))
    expect(resolve(1)).toEqual(all('cuda:1'))
    expect(resolve({ '': 1 })).toEqual(all('cuda:1'))
    expect(resolve({ '': 'cpu:3' })).toEqual(all('cpu:3'))
    expect(resolve('disk')).toEqual(all('disk'))
  })

  test('the longest prefix wins, and a prefix ends at a dot', () => {
    const map = { '': 'cpu:0', 'model.layers.1': 'cpu:1', 'model.layers': 'cpu:2', 'model.rotary_emb': 'cpu:0' }
    expect(resolve(map)).toEqual({
      ...all('cpu:2'),
      'model.embed_tokens': 'cpu:0',
      'model.layers.1': 'cpu:1',
      'model.norm': 'cpu:0',
      lm_head: 'cpu:0',
    })
  })

  test.each([
    [-1, /-1 is not a device/],
    ['gpu0', /"gpu0" is not a device/],
    [{ '': 'tpu' }, /"tpu" is not a device/],
    ['disk:1', /"disk:1" is not a device/],
    [null, /null is not a device/],
    [{ model: 'cpu' }, /leaves out 1 of 6 modules: lm_head/],
    [{ lm_head: 0 }, /leaves out 5 of 6 modules: model.embed_tokens, model.layers.0/],
    [
      { '': 'cpu', 'model.layers.1.mlp': 'cpu:1', 'model.layers.1.self_attn.q_proj.qweight': 'cpu:0' },
      /model.layers.1 cannot be split, but "model.layers.1.mlp" is on cpu:1 and "model.layers.1.self_attn.q_proj.qweight" on cpu:0/,
    ],
    [
      { '': 'cpu', 'model.layers.1': 'cpu:0', 'model.layers.1.mlp': 'cpu:1' },
      /model.layers.1 cannot be split, but "model.layers.1" is on cpu:0 and "model.layers.1.mlp" on cpu:1/,
    ],
    [
      { '': 'cpu', lm_head: 0, 'language_model.lm_head': 1 },
      /"lm_head" is on cuda:0 and "language_model.lm_head" on cuda:1/,
    ],
    [{ '': 'cpu', 'transformer.h.0': 'cpu:1' }, /has no module "transformer.h.0"/],
    [{ '': 'cpu', 'model.layers.2.mlp': 'cpu:1' }, /has no module "model.layers.2.mlp"/],
    [{ '': 'cpu', 'model.layers.01': 'cpu:1' }, /has no module "model.layers.01"/],
    [{ '': 'cpu', weight: 'cpu:1' }, /has no module "weight"/],
  ])('%j is refused', (map, message) => {
    expect(() => resolve(map)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  test('a key inside a module places it', () => {
    const map = { '': 'cpu:0', 'model.layers.10.self_attn': 1, 'model.layers.10.mlp.up_proj.weight': 'cuda:1' }
    expect(resolve(map)).toEqual({ ...all('cpu:0'), 'model.layers.10': 'cuda:1' })
    expect(resolve({ '': 'cpu', 'lm_head.weight': 0, model: 'cpu:1' })).toEqual({ ...all('cpu:1'), lm_head: 'cuda:0' })
  })

  test('the names of all tensors are a map', () => {
    const inside = [
      'input_layernorm.weight',
      'self_attn.q_proj.weight',
      'self_attn.rotary_emb.inv_freq',
      'mlp.up_proj.weight',
    ]
    const tensors = modules.flatMap((module) =>
      module.includes('layers') ? inside.map((name) => `${module}.${name}`) : [`${module}.weight`],
    )
    const deviceOf = (name: string) => (/layers\.10?\./.test(name) ? 'cpu:1' : 'cpu:0')
    const map = Object.fromEntries(tensors.map((name) => [name, deviceOf(name)]))
    expect(resolve(map)).toEqual({ ...all('cpu:0'), 'model.layers.1': 'cpu:1', 'model.layers.10': 'cpu:1' })
  })

  test.each([
    [{ embed_tokens: 0, layers: 1, 'layers.10': 2, 'norm.weight': 1, 'lm_head.weight': 2 }],
    [
      {
        'model.language_model': 1,
        'model.language_model.embed_tokens': 0,
        'model.language_model.layers.10': 2,
        lm_head: 2,
      },
    ],
    [
      {
        'language_model.model': 1,
        'language_model.model.embed_tokens.weight': 0,
        'language_model.model.layers.10': 2,
        'language_model.lm_head': 2,
      },
    ],
    [
      {
        language_model: 1,
        'language_model.embed_tokens': 0,
        'language_model.layers.10.mlp': 2,
        'model.lm_head.weight': 2,
      },
    ],
    [
      {
        '': 1,
        'model.embed_tokens': 0,
        'model.layers.10': 2,
        lm_head: 2,
        'model.visual.blocks.0': 5,
        vision_tower: 'cpu',
        'mtp.fc.weight': 4,
      },
    ],
  ])('with or without the prefixes of releases: %j', (map) => {
    expect(resolve(map)).toEqual({
      ...all('cuda:1'),
      'model.embed_tokens': 'cuda:0',
      'model.layers.10': 'cuda:2',
      lm_head: 'cuda:2',
    })
  })

  test("Qwen v1's names", () => {
    const own = ['transformer.wte', 'transformer.h.0', 'transformer.h.1', 'transformer.ln_f', 'lm_head']
    const map = {
      '': 'cpu',
      'h.1': 'cpu:1',
      'wte.weight': 'cpu:2',
      'transformer.ln_f.weight': 'cpu:3',
      'transformer.rotary_emb': 0,
    }
    expect([...resolveDeviceMap(map, own).values()]).toEqual(['cpu:2', 'cpu', 'cpu:1', 'cpu:3', 'cpu'])
  })

  test('is quick for any number of tensors', () => {
    const many = Array.from({ length: 1000 }, (_, layer) => `model.layers.${layer}`)
    const names = ['model.embed_tokens', ...many, 'model.norm', 'lm_head']
    const map = Object.fromEntries(
      names.flatMap((name) => Array.from({ length: 100 }, (_, i) => [`${name}.${i}.weight`, 0])),
    )
    const begin = performance.now()
    expect(new Set(resolveDeviceMap(map, names).values())).toEqual(new Set(['cuda:0']))
    expect(performance.now() - begin).toBeLessThan(2000)
  })

  test('a CUDA device that does not exist is an error that says why', async () => {
    const { available } = devices().cuda
    if (available) return expect(devices().devices.some(({ device }) => device === 'cuda:0')).toBe(true)
    await expect(loadModel(modelDirectory('qwen2-bf16'), { deviceMap: 'cuda:0' })).rejects.toMatchObject({
      code: 'DEVICE_NOT_FOUND',
      message: expect.stringMatching(/cuda:0/),
    })
  })
})

describe('layerSplit', () => {
  // Layers a device that QwenLM's own _device_map gives (fixtures' layered cases).
  test.each([
    [4, 80, [20, 21, 21, 18]],
    [3, 28, [9, 10, 9]],
    [2, 24, [12, 12]],
    [8, 80, [10, 11, 11, 11, 11, 11, 11, 4]],
  ])('%i devices, %i layers', (count, layers, expected) => {
    const devices = Array.from({ length: count }, (_, i) => `cpu:${i}`)
    const map = layerSplit(devices, layers)
    const layerDevices = Object.entries(map).filter(([module]) => module.startsWith('model.layers.'))
    expect(devices.map((device) => layerDevices.filter(([, d]) => d === device).length)).toEqual(expected)
    expect(map['model.embed_tokens']).toBe('cpu:0')
    expect(map['model.norm']).toBe(devices.at(-1))
    expect(map.lm_head).toBe(devices.at(-1))
  })

  test('more devices than layers leaves some unused', () => {
    expect(new Set(Object.values(layerSplit(['cpu:0', 'cpu:1', 'cpu:2', 'cpu:3'], 1))).size).toBeGreaterThan(1)
  })

  test('bad input is refused', () => {
    expect(() => layerSplit([], 4)).toThrow(/devices is empty/)
    expect(() => layerSplit(['cpu'], 0)).toThrow(/layers is 0/)
  })
})
