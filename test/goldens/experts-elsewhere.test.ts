/** The goldens of mixtures of experts with experts on other devices than their layers: CPUs, the disk, emulated devices. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel } from '../../src/index'
import {
  difference,
  golden,
  greedyTokens,
  hybridModels,
  layerCount,
  modelDirectory,
  moeModels,
  representativeModels,
} from '../support/fixtures'
import { sparseLayers } from '../support/sparse-layers'

type DeviceMap = Readonly<Record<string, string>>

/** In fp32, as in goldens.test.ts. */
const tolerance = (name: string) => (hybridModels.includes(name) ? 5e-4 : 1.5e-4)

/** The experts of layer after layer on one device after the other. */
const experts = (layers: readonly number[], ...devices: string[]): DeviceMap =>
  Object.fromEntries(layers.map((layer, i) => [`model.layers.${layer}.mlp.experts`, devices[i % devices.length] ?? '']))

const onCpus: Record<string, (layers: readonly number[]) => DeviceMap> = {
  'on one device': () => ({ '': 'cpu' }),
  'all experts on another': (layers) => ({ '': 'cpu', ...experts(layers, 'cpu:1') }),
  'on several devices, layers in two stages': (layers) => ({
    '': 'cpu',
    'model.layers.1': 'cpu:1',
    ...experts(layers, 'cpu:1', 'cpu', 'disk'),
  }),
}
const onGpus: Record<string, (layers: readonly number[]) => DeviceMap> = {
  'on one device': () => ({ '': 'emulated:0' }),
  'all experts on another': (layers) => ({ '': 'emulated:0', ...experts(layers, 'emulated:1') }),
  'all experts on the CPU': (layers) => ({ '': 'emulated:0', ...experts(layers, 'cpu') }),
  'experts alone on a GPU': (layers) => ({ '': 'cpu', ...experts(layers, 'emulated:0') }),
  'on several devices, layers in two stages': (layers) => ({
    '': 'emulated:0',
    'model.layers.1': 'emulated:1',
    ...experts(layers, 'emulated:1', 'cpu', 'emulated:2'),
  }),
}

/** Layers of several ranks, whose experts are whole on one device. */
const ofRanks: [string, LoadOptions, (layers: readonly number[]) => DeviceMap][] = [
  ['2 ranks on CPUs', { tensorParallelSize: 2 }, (layers) => ({ '': 'cpu,cpu:1', ...experts(layers, 'cpu:2') })],
  [
    '3 ranks on one CPU in two stages, experts on several devices',
    { tensorParallelSize: 3, expertParallel: true },
    (layers) => ({ '': 'cpu', 'model.layers.1': 'cpu:1', ...experts(layers, 'cpu:1', 'cpu', 'disk') }),
  ],
  [
    '2 ranks on emulated devices, experts on the CPU',
    { tensorParallelSize: 2, dtype: 'float16' },
    (layers) => ({ '': 'emulated:0,emulated:1', ...experts(layers, 'cpu') }),
  ],
  [
    '2 ranks on emulated devices, experts on one of them',
    { tensorParallelSize: 2, dtype: 'float16' },
    (layers) => ({ '': 'emulated:0,emulated:1', ...experts(layers, 'emulated:1') }),
  ],
]

describe.each(moeModels)('%s', (name) => {
  const expected = golden(name)
  const layers = sparseLayers(modelDirectory(name))

  const isRepresentative = representativeModels.includes(name) || name.includes('next')
  const own = ofRanks.filter(([, { dtype }]) => dtype === undefined || isRepresentative)
  test.each(own)('%s', async (_, options, mapOf) => {
    const deviceMap = mapOf(layers)
    await using model = await loadModel(modelDirectory(name), {
      dtype: 'float32',
      ...options,
      deviceMap,
      maxModelLength: 64,
    })
    for (const prompt of ['p7', 'p33']) {
      const { logits } = await model.forward(expected.prompts[prompt] as number[])
      const half = expected.measured.fp16?.[prompt]?.logits_max_abs ?? 1
      const most = options.dtype === 'float16' ? 3 * half : tolerance(name)
      expect(difference(logits, expected.tensor(`${prompt}.logits`)).max).toBeLessThanOrEqual(most)
    }
    const prompts = ['p7', 'p33']
    const continuations = await Promise.all(prompts.map((prompt) => greedyTokens(model, expected.prompts[prompt])))
    expect(continuations).toEqual(prompts.map((prompt) => expected.greedy[prompt]))
    for (const { planned, weights, kvCache, states, buffers } of model.memory()) {
      expect({ weights, kvCache, states, buffers }).toEqual(planned)
    }
  })

  describe.each<[string, LoadOptions, string, number, typeof onCpus]>([
    ['on CPUs', { dtype: 'float32' }, '', tolerance(name), onCpus],
    ['with emulated devices', { dtype: 'float16' }, 'fp16', 3, onGpus],
  ])('%s', (_, options, measuredIn, bound, maps) => {
    const onOne = new Map<string, Float32Array>()
    const own = measuredIn === '' || isRepresentative ? Object.keys(maps) : ['all experts on the CPU']
    test.each(own)('%s', async (split) => {
      const deviceMap = maps[split]?.(layers) as DeviceMap
      await using model = await loadModel(modelDirectory(name), { ...options, deviceMap, maxModelLength: 64 })
      for (const prompt of ['p7', 'p33']) {
        const ids = expected.prompts[prompt] as number[]
        const { logits, hiddenStates } = await model.forward(ids, { hiddenStates: true })
        const measured = expected.measured[measuredIn]?.[prompt]
        const most = (part: 'logits_max_abs' | 'last_layer_max_abs') => bound * (measured?.[part] ?? 1)
        expect(difference(logits, expected.tensor(`${prompt}.logits`)).max).toBeLessThanOrEqual(most('logits_max_abs'))
        expect(hiddenStates).toHaveLength(layerCount(expected) + 1)
        for (const [i, state] of prompt === 'p33' ? hiddenStates.entries() : []) {
          const { max } = difference(state, expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`))
          expect(max, `hidden state ${i}`).toBeLessThanOrEqual(most('last_layer_max_abs'))
        }
        const one = onOne.get(prompt)
        const kinds = new Set(Object.values(deviceMap).map((device) => device.startsWith('emulated')))
        if (split === 'on one device') onOne.set(prompt, logits)
        else if (one && kinds.size === 1) expect(logits, 'a split gives bit for bit what one device gives').toEqual(one)
      }
      const prompts = ['p7', 'p33']
      const continuations = await Promise.all(prompts.map((prompt) => greedyTokens(model, expected.prompts[prompt])))
      expect(continuations).toEqual(prompts.map((prompt) => expected.greedy[prompt]))
      for (const { planned, weights, kvCache, states, buffers } of model.memory()) {
        expect({ weights, kvCache, states, buffers }).toEqual(planned)
      }
    })
  })
})
