import { describe, expect, test } from 'vitest'
import { type InferOptions, type InferStrategy, inferDeviceMap, parseMemorySize } from '../../../src/index'
import { deviceName, layerSplit, resolveDeviceMap } from '../../../src/placement/device-map'
import { type CountedModel, deviceMapCases as fixture } from '../../support/device-map-cases'

function fixtureModel(name: string) {
  const model = fixture.models[name]
  if (!model) throw new Error(`no model ${name} in cases.json`)
  return {
    modules: model.module_sizes,
    tied: model.tied_parameters,
    noSplit: model.no_split_module_classes,
    leaves: model.leaves,
  }
}

const refusal = (message: RegExp) =>
  expect.objectContaining({ name: 'BillfishError', code: 'INVALID_OPTION', message: expect.stringMatching(message) })

describe("accelerate's device maps", () => {
  test('are complete', () => expect(fixture.cases).toHaveLength(111))

  test.each(fixture.cases.map((c) => [c.id, c.model, c.strategy, c] as const))(
    'case %s: %s, %s',
    (_id, model, strategy, { max_memory, device_map }) => {
      expect(inferDeviceMap(fixtureModel(model), { strategy, maxMemory: max_memory })).toEqual(device_map)
    },
  )

  test('the insides of a layer that is never split change nothing', () => {
    for (const { model, strategy, max_memory, device_map } of fixture.cases.filter(({ id }) => id.endsWith('3'))) {
      const { layer0_module_sizes } = fixture.models[model] as CountedModel
      const finer = fixtureModel(model)
      finer.modules = { ...finer.modules, ...layer0_module_sizes }
      expect(inferDeviceMap(finer, { strategy, maxMemory: max_memory })).toEqual(device_map)
    }
  })
})

/** Two layers of 10 bytes in two halves, an embedding of 8 and a head of 8. */
const small = {
  modules: {
    embed: 8,
    'layers.0.attention': 4,
    'layers.0.mlp': 6,
    'layers.1.attention': 4,
    'layers.1.mlp': 6,
    head: 8,
  },
  leaves: { mean_bytes: 6 },
}
const infer = (model: object, maxMemory: InferOptions['maxMemory'], strategy: InferStrategy = 'sequential') =>
  inferDeviceMap({ ...small, ...model }, { strategy, maxMemory })

describe('inferDeviceMap', () => {
  test('layers are split only where no class forbids it', () => {
    // The first GPU keeps 8 bytes for the head: 15 bytes are left, the embedding takes 8 and the attention 4 of them.
    expect(infer({}, { 0: 23, 1: 100 })).toEqual({
      embed: 0,
      'layers.0.attention': 0,
      'layers.0.mlp': 1,
      'layers.1': 1,
      head: 1,
    })
    expect(infer({ noSplit: ['Layer'] }, { 0: 23, 1: 100 })).toEqual({ embed: 0, layers: 1, head: 1 })
  })

  test('only the first GPU and the CPU reserve memory for the largest remaining layer', () => {
    // The embedding and a layer have 18 bytes. The second GPU needs no more; the first one 10 more, for the other layer.
    expect(infer({ noSplit: ['Layer'] }, { 0: 28, 1: 18 })).toMatchObject({ embed: 0, 'layers.0': 0, 'layers.1': 1 })
    expect(infer({ noSplit: ['Layer'] }, { 0: 27, 1: 18 })).toMatchObject({ embed: 0, 'layers.0': 1, head: 'disk' })
    expect(infer({ noSplit: ['Layer'] }, { 0: 0, 1: 18, cpu: 17 })).toEqual({
      embed: 1,
      'layers.0': 1,
      'layers.1': 'disk',
      head: 'disk',
    })
    expect(infer({ noSplit: ['Layer'] }, { 0: 0, 1: 18, cpu: 18 })).toMatchObject({ 'layers.1': 'cpu', head: 'cpu' })
  })

  test('tied modules go together and are counted once', () => {
    const tied = [['embed.weight', 'head.weight']]
    const modules = { ...small.modules, head: 0 }
    expect(infer({ modules, tied, noSplit: ['Layer'] }, { 0: 18, 1: 100 })).toEqual({ embed: 0, head: 0, layers: 1 })
    // A head with a bias of its own brings only that.
    const withBias = { ...modules, head: 1 }
    expect(infer({ modules: withBias, tied, noSplit: ['Layer'] }, { 0: 19, 1: 100 })).toMatchObject({
      embed: 0,
      head: 0,
    })
    expect(infer({ modules: withBias, tied, noSplit: ['Layer'] }, { 0: 18, 1: 100 })).toEqual({ '': 1 })
  })

  test('a tied module that is too large is split rather than moved to the next device', () => {
    const modules = { tokens: 8, 'decoder.table': 0, 'decoder.block': 30, head: 20 }
    const tied = [['tokens.weight', 'decoder.table.weight']]
    expect(infer({ modules, tied }, { 0: 38, 1: 100 })).toEqual({
      tokens: 0,
      'decoder.table': 0,
      'decoder.block': 1,
      head: 1,
    })
  })

  test('one device is one entry, and the disk takes what fits nowhere else', () => {
    expect(infer({}, { 0: 100 })).toEqual({ '': 0 })
    expect(infer({}, { cpu: 100 })).toEqual({ '': 'cpu' })
    expect(infer({}, { 0: 0 }, 'balanced')).toEqual({ '': 'disk' })
    expect(infer({}, { disk: 5 }, 'auto')).toEqual({ '': 'disk' })
  })

  test('budgets in any spelling and order are the same budgets', () => {
    const model = fixtureModel('Qwen2-7B/fp16')
    const expected = inferDeviceMap(model, { strategy: 'auto', maxMemory: { 0: 6 * 2 ** 30, 1: 9e9, cpu: 2 ** 40 } })
    const maxMemory = { cpu: '1024GiB', 'cuda:1': '9GB', 'cuda:0': '6144MiB' }
    expect(inferDeviceMap(model, { strategy: 'auto', maxMemory })).toEqual(expected)
    expect(new Set(Object.values(expected))).toEqual(new Set([0, 1, 'cpu']))
  })

  test('balanced_low_0 spares the lowest index, whatever it is', () => {
    const model = fixtureModel('Qwen3-8B/fp16')
    const from = (first: number) => {
      const maxMemory = { [first]: '12GiB', [first + 1]: '12GiB' }
      return inferDeviceMap(model, { strategy: 'balanced_low_0', maxMemory })
    }
    const shifted = Object.entries(from(0)).map(([name, d]) => [name, typeof d === 'number' ? d + 3 : d])
    expect(from(3)).toEqual(Object.fromEntries(shifted))
  })

  const tenParts = Object.fromEntries(Array.from({ length: 10 }, (_, i) => [`part${i}`, 2]))
  // What accelerate 1.15 answers.
  test.each<[string, object, InferStrategy, InferOptions['maxMemory'], object]>([
    [
      'a companion is split only for a module that fits without it',
      {
        modules: { 'body.0': 2, 'body.1': 2.5, 'body.2': 5.5, tail: 1, 'side.part.0': 0 },
        tied: [['body.2.weight', 'side.part.0.weight']],
        leaves: { mean_bytes: 2 },
      },
      'auto',
      { 0: 18, 1: 6, 2: 20, 3: 3 },
      { 'body.0': 1, 'body.1': 2, 'body.2': 'disk', side: 'disk', tail: 'disk' },
    ],
    [
      'a module that alone fills a device to the last byte is split for its companion',
      { modules: { 'body.one': 3, 'body.two': 3, head: 1, rest: 9 }, tied: [['body.one.weight', 'head.weight']] },
      'sequential',
      { 0: 15, 1: 100 },
      { 'body.one': 0, head: 0, 'body.two': 1, rest: 1 },
    ],
    [
      'one that leaves a little is not',
      { modules: { 'body.one': 3, 'body.two': 3, head: 1, rest: 9 }, tied: [['body.one.weight', 'head.weight']] },
      'sequential',
      { 0: 15.5, 1: 100 },
      { '': 1 },
    ],
    [
      'GPUs without memory get no share',
      { modules: { body: 0, tail: 2 }, leaves: { mean_bytes: 1 } },
      'balanced',
      { 0: 2, 1: 0, 2: 2, 3: 0, cpu: 1 },
      { '': 0 },
    ],
    [
      'but balanced_low_0 counts them among the others',
      { modules: tenParts, leaves: { mean_bytes: 2 } },
      'balanced_low_0',
      { 0: 20, 1: 0, 2: 20, 3: 20 },
      Object.fromEntries(Object.keys(tenParts).map((name, i) => [name, i < 3 ? 0 : i < 9 ? 2 : 3])),
    ],
    [
      'a part without siblings keeps its name',
      { modules: { 'left.only': 0, right: 7 } },
      'sequential',
      { 0: 4, 1: 3, 2: 6 },
      { 'left.only': 1, right: 'disk' },
    ],
  ])('%s', (_name, model, strategy, maxMemory, expected) => expect(infer(model, maxMemory, strategy)).toEqual(expected))

  test('a layer that is never split may be listed with some of its insides only', () => {
    const modules = { 'layers.0': 10, 'layers.0.mlp': 6, 'layers.1': 10, 'layers.2': 10 }
    expect(infer({ modules, noSplit: ['Layer'] }, { 0: 20, 1: 10 })).toEqual({
      'layers.0': 0,
      'layers.1': 1,
      'layers.2': 'disk',
    })
    expect(() => infer({ modules }, { 0: 20, 1: 10 })).toThrow(
      refusal(/listed parts of layers.0 \(1\) have 6 bytes .* has 10/),
    )
  })

  const budget = { 0: 100 }
  test.each<[string, object, object, RegExp]>([
    [
      'an unknown strategy',
      {},
      { strategy: 'even' },
      /strategy is "even", but must be 'auto', 'balanced', 'balanced_low_0' or 'sequential'/,
    ],
    ['no device', {}, { maxMemory: {} }, /maxMemory is empty; give each device a budget/],
    ['a device that is none', {}, { maxMemory: { gpu0: 5 } }, /maxMemory: "gpu0" is not a device; name a CUDA device/],
    ['a device twice', {}, { maxMemory: { 1: 5, 'cuda:1': 6 } }, /names CUDA device 1 twice/],
    ['a negative budget', {}, { maxMemory: { 0: -5 } }, /maxMemory\["0"\] is -5, but must be bytes/],
    ['an unreadable budget', {}, { maxMemory: { cpu: '5 apples' } }, /maxMemory.cpu is "5 apples", but must be bytes/],
    ['no modules', { modules: { '': 5 } }, {}, /modules is empty; give the bytes of each/],
    ['a negative size', { modules: { a: -1 } }, {}, /modules.a is -1, but must be a finite number/],
    ['a size that is not finite', { modules: { a: Number.NaN } }, {}, /modules.a is NaN/],
    ['a size that is no number', { modules: { '': '8' } }, {}, /modules\[""\] is "8"/],
    ['a part larger than its whole', { modules: { a: 5, 'a.b': 7 } }, {}, /a\.b has 7 bytes, but a,.* has 5\. Correct/],
    [
      'parts larger than their whole',
      { modules: { a: 5, 'a.b': 4, 'a.c': 4 } },
      {},
      /parts of a \(2\) have 8 bytes .* a has 5/,
    ],
    [
      'parts that miss some of it',
      { modules: { '': 9, a: 5, b: 2 } },
      {},
      /7 bytes together, but the whole model .* has 9/,
    ],
    [
      'a layer smaller than its parts',
      { modules: { 'l.0': 5, 'l.0.x': 6 }, noSplit: ['L'] },
      {},
      /l\.0\.x has 6 bytes/,
    ],
    [
      'a tied name not there',
      { tied: [['embed.weight', 'lm_head.weight']] },
      {},
      /tied: .* "lm_head.weight"; the model/,
    ],
    [
      'a tied name not there, deeper',
      { tied: [['layers.2.x']] },
      {},
      /"layers.2.x"; layers consists of layers.0, layers.1/,
    ],
    ['no mean', { leaves: {} }, {}, /leaves.mean_bytes is undefined/],
    ['a negative mean', { leaves: { mean_bytes: -1 } }, {}, /leaves.mean_bytes is -1/],
  ])('%s is refused', (_name, model, options, message) => {
    const all = { strategy: 'auto', maxMemory: budget, ...options } as InferOptions
    expect(() => inferDeviceMap({ ...small, ...model }, all)).toThrow(refusal(message))
  })
})

describe('parseMemorySize', () => {
  test.each([
    [0, 0],
    [12.5, 12.5],
    ['38GiB', 38 * 2 ** 30],
    ['20GB', 20e9],
    ['500MiB', 500 * 2 ** 20],
    ['500MB', 500e6],
    ['3KiB', 3072],
    ['3kB', 3000],
    ['1.5 GiB', 1.5 * 2 ** 30],
    [' .5gib ', 2 ** 29],
    ['1e3KB', 1e6],
    ['1.2GiB', 1_288_490_188],
    ['0GB', 0],
    ['8Gb', 1e9],
    ['1.9Kb', 237],
    ['8Gib', 8 * 2 ** 30],
  ])('%j is %d bytes', (size, bytes) => expect(parseMemorySize(size)).toBe(bytes))

  test.each([
    -1,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    '',
    '38',
    'GiB',
    '-1GiB',
    '1.2.3GB',
    '4TB',
    '1e999GB',
    'x4GB',
    '4GB4',
  ])('%j is refused', (size) => {
    expect(() => parseMemorySize(size)).toThrow(refusal(/is not a memory size; give bytes .* such as '38GiB'/))
  })

  test('values of other types are refused', () => {
    for (const size of [null, undefined, {}, true])
      expect(() => parseMemorySize(size as never)).toThrow(refusal(/size/))
  })
})

describe('explicit forms', () => {
  const modules = ['model.embed_tokens', 'model.layers.0', 'model.layers.1', 'model.norm', 'lm_head']

  test('both kinds are here', () => {
    expect(fixture.explicit.filter(({ resolved }) => resolved)).not.toHaveLength(0)
    expect(fixture.explicit.filter(({ resolved }) => !resolved)).not.toHaveLength(0)
  })

  test.each(fixture.explicit.map((e) => [JSON.stringify(e.form), e] as const))('%s', (_name, { form, resolved }) => {
    if (!resolved) return expect(() => resolveDeviceMap(form, modules)).toThrow(refusal(/is not a device/))
    const device = deviceName(resolved[''])
    expect(resolveDeviceMap(form, modules)).toEqual(new Map(modules.map((module) => [module, device])))
  })
})

describe('layered maps', () => {
  const named = (map: Record<string, number>) =>
    Object.fromEntries(Object.entries(map).map(([module, device]) => [module, deviceName(device)]))

  test.each(fixture.layered.map((l) => [l.num_gpus, l.num_layers, l] as const))(
    '%i GPUs, %i layers',
    (gpus, layers, { device_map, qwenlm_utils_device_map }) => {
      const devices = Array.from({ length: gpus }, (_, i) => i)
      expect(layerSplit(devices, layers)).toEqual(named(device_map))
      const names = { embedding: 'transformer.wte', layers: 'transformer.h', norm: 'transformer.ln_f', head: 'lm_head' }
      // Theirs has the final norm on the first GPU, a hop back; the layers are the same.
      const last = deviceName(gpus - 1)
      expect(layerSplit(devices, layers, names)).toEqual({
        ...named(qwenlm_utils_device_map),
        'transformer.ln_f': last,
      })
    },
  )
})
