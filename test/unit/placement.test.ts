import { describe, expect, test } from 'vitest'
import { devices, layerSplit, loadModel } from '../../src/index'
import { resolveDeviceMap } from '../../src/placement/device-map'
import { modelDirectory } from '../support/fixtures'

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
    [{ '': 'cpu', 'model.layers.1.mlp': 'cpu:1' }, /lies inside model.layers.1, which is placed as a whole/],
    [{ '': 'cpu', 'transformer.h.0': 'cpu:1' }, /has no module transformer.h.0/],
  ])('%j is refused', (map, message) => {
    expect(() => resolve(map)).toThrow(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }),
    )
  })

  test('a CUDA device where there is none is an error that says why', async () => {
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
