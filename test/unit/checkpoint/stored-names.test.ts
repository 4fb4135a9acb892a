import { readFileSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { loadModel } from '../../../src/load'
import { storedWeights } from '../../../src/models/registry'
import { openCheckpoint } from '../../../src/open-checkpoint'
import { planModel } from '../../../src/plan'
import { changedCopy, renamedCopy, withConfig } from '../../support/fixture-copies'
import { difference, modelDirectory } from '../../support/fixtures'
import { readSafetensors } from '../../support/tensors'

const prompt = [3, 17, 88, 5, 201, 44, 9, 120, 77, 250, 31, 2]
const embeddingModel = resolve(__dirname, '../../fixtures/models-2026/qwen3-embedding')

async function logitsOf(directory: string): Promise<Float32Array> {
  await using model = await loadModel(directory, { dtype: 'float32', maxModelLength: 64, deviceMap: 'cpu' })
  return (await model.forward(prompt)).logits
}

const renamings: Record<string, (name: string) => string> = {
  'no prefix': (name) => name.replace(/^(model|transformer)\./, ''),
  'model.language_model.': (name) => name.replace(/^model\./, 'model.language_model.'),
  'language_model.model., and the head there': (name) => `language_model.${name}`,
  'language_model.model., and the head at the top': (name) => name.replace(/^model\./, 'language_model.model.'),
  'model.text_model., and the head in model': (name) =>
    name.replace(/^model\./, 'model.text_model.').replace(/^lm_head/, 'model.lm_head'),
  'base_model.model.model.': (name) => `base_model.model.${name}`,
}

describe.each(['qwen3-bf16', 'qwen2-tied-fp16', 'qwen2-gptq-int4-g32-desc_act', 'qwen2-ct-w4a16'])('%s', (fixture) => {
  test.each(Object.keys(renamings))('with names that have %s', async (how) => {
    const original = modelDirectory(fixture)
    const directory = renamedCopy(original, renamings[how] as (name: string) => string)
    expect(await logitsOf(directory)).toEqual(await logitsOf(original))
    const options = {
      deviceMap: 'balanced',
      devices: ['cpu:0', 'cpu:1'],
      maxMemory: { 'cpu:0': '1GB', 'cpu:1': '1GB' },
    }
    const [moved, plain] = [await planModel(directory, options), await planModel(original, options)]
    expect(moved.stages).toEqual(plain.stages) // accelerate's map is made from the sizes of stored tensors
    expect(Object.keys(moved.deviceMap)).toContain('model.layers.0')
  })
})

test('Qwen v1 without prefix', async () => {
  const directory = renamedCopy(modelDirectory('qwen1-gptq-int8'), renamings['no prefix'] as (name: string) => string)
  expect(await logitsOf(directory)).toEqual(await logitsOf(modelDirectory('qwen1-gptq-int8')))
})

test('other stored tensors are not mistaken for the model', async () => {
  const original = modelDirectory('qwen2-bf16')
  const directory = changedCopy(original, ({ tensors }) => {
    for (const [name, tensor] of [...tensors]) {
      if (/embed_tokens|layers\.0/.test(name)) tensors.set(name.replace(/^model/, 'mtp'), tensor)
      if (/layers\.0/.test(name)) tensors.set(name.replace(/^model/, 'visual.blocks'), tensor)
    }
  })
  expect(await logitsOf(directory)).toEqual(await logitsOf(original))
})

test('two models in one checkpoint are refused', async () => {
  const directory = changedCopy(modelDirectory('qwen2-bf16'), ({ tensors }) => {
    for (const [name, tensor] of [...tensors]) tensors.set(`teacher.${name}`, tensor)
  })
  await expect(loadModel(directory)).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(/"model\.embed_tokens\.weight" and "teacher\.model\.embed_tokens\.weight"/),
  })
})

test('a message names the tensor as it is stored', async () => {
  const directory = changedCopy(modelDirectory('qwen2-bf16'), (copy) => {
    copy.tensors = new Map([...copy.tensors].map(([name, tensor]) => [`language_model.${name}`, tensor]))
    copy.tensors.delete('language_model.model.layers.1.mlp.up_proj.weight')
  })
  await expect(loadModel(directory)).rejects.toMatchObject({
    code: 'INVALID_CHECKPOINT',
    message: expect.stringContaining('"language_model.model.layers.1.mlp.up_proj.weight" is missing'),
  })
})

describe('the head', () => {
  test('is the stored one, even if the config says that it is tied', async () => {
    const original = modelDirectory('qwen3-bf16')
    const directory = withConfig('qwen3-bf16', (config) => ({ ...config, tie_word_embeddings: true }))
    expect(await logitsOf(directory)).toEqual(await logitsOf(original))
    const { layout } = storedWeights(await openCheckpoint(directory))
    expect(layout.head).toBe(true)
  })

  test('is the embedding if the config says so and none is stored', async () => {
    const directory = changedCopy(modelDirectory('qwen3-bf16'), ({ config, tensors }) => {
      config.tie_word_embeddings = true
      tensors.set('lm_head.weight', tensors.get('model.embed_tokens.weight') as never)
    })
    const tied = changedCopy(directory, ({ tensors }) => tensors.delete('lm_head.weight'))
    expect(await logitsOf(tied)).toEqual(await logitsOf(directory))
  })
})

describe('a checkpoint without a head', () => {
  const golden = readSafetensors(join(embeddingModel, 'golden.safetensors'))
  const floats = (name: string) => {
    const data = golden.get(name)?.data as Buffer
    return new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length))
  }
  const ids = (name: string) => {
    const data = golden.get(name)?.data as Buffer
    return Array.from({ length: data.length / 8 }, (_, i) => Number(data.readBigInt64LE(8 * i)))
  }

  test.each(['cpu', 'emulated:0', { 'model.embed_tokens': 'cpu:0', 'model.layers': 'cpu:0', 'model.norm': 'cpu:1' }])(
    'gives the reference its hidden states on %j',
    async (deviceMap) => {
      const onCpu = deviceMap !== 'emulated:0'
      await using model = await loadModel(embeddingModel, {
        deviceMap,
        maxModelLength: 64,
        ...(onCpu && { dtype: 'float32' }),
      })
      expect(Object.keys(model.deviceMap)).not.toContain('lm_head')
      const starts = ids('emb.cu_seqlens')
      const width = model.limits.hiddenSize
      for (const [i, start] of starts.slice(0, -1).entries()) {
        const end = starts[i + 1] as number
        const result = await model.forward(ids('emb.input_ids').slice(start, end), { hiddenStates: true })
        expect(result.logits).toHaveLength(0)
        expect(result.hiddenStates).toHaveLength(4)
        const expected = floats('emb.final_norm').subarray(start * width, end * width)
        expect(difference(result.lastHiddenState, expected).max).toBeLessThan(onCpu ? 2e-5 : 0.1)
      }
      expect((await model.forward([1, 2, 3])).lastHiddenState).toHaveLength(3 * width)
    },
  )

  test('generates nothing, and says why', async () => {
    await using model = await loadModel(embeddingModel, { deviceMap: 'cpu' })
    expect(() => model.generate([1, 2, 3])).toThrow(
      expect.objectContaining({ code: 'UNSUPPORTED_MODEL', message: expect.stringMatching(/has no lm_head/) }),
    )
  })

  test.each([
    ['lm_head', 'cpu:1'],
    ['lm_head.weight', 'cpu:1'],
    ['model.lm_head', 'cpu:0'],
    ['score', 'cpu:0'],
  ])('takes a device map that has %s', async (key, device) => {
    await using model = await loadModel(embeddingModel, { deviceMap: { model: 'cpu:0', [key]: device } })
    expect(new Set(Object.values(model.deviceMap))).toEqual(new Set(['cpu:0']))
    expect(model.deviceMap).not.toHaveProperty(key)
    await expect(loadModel(embeddingModel, { deviceMap: { model: 'cpu', [key]: 'gpu' } })).rejects.toMatchObject({
      code: 'INVALID_OPTION',
    })
  })

  test('is planned without one', async () => {
    const plan = await planModel(embeddingModel, { deviceMap: 'auto', devices: ['cpu:0', 'cpu:1'] })
    expect(Object.keys(plan.deviceMap)).toEqual([
      'model.embed_tokens',
      ...[0, 1, 2].map((i) => `model.layers.${i}`),
      'model.norm',
    ])
    await using model = await loadModel(embeddingModel, { plan })
    for (const { planned, weights, buffers } of model.memory()) {
      expect({ weights, buffers }).toEqual({ weights: planned.weights, buffers: planned.buffers })
    }
  })
})

test.each(['cpu', 'emulated:0', { lm_head: 'cpu:1', '': 'cpu:0' }])(
  'with a head, the hidden states behind the final norm come if they are asked for: on %j',
  async (deviceMap) => {
    const directory = modelDirectory('qwen3-bf16')
    const golden = readSafetensors(join(directory, 'golden.safetensors'))
    const data = golden.get('p33.final_norm')?.data as Buffer
    const expected = new Float32Array(data.buffer.slice(data.byteOffset, data.byteOffset + data.length))
    const { prompts } = JSON.parse(readFileSync(join(directory, 'golden.json'), 'utf8'))
    const onCpu = deviceMap !== 'emulated:0'
    await using model = await loadModel(directory, {
      deviceMap,
      maxModelLength: 64,
      ...(onCpu && { dtype: 'float32' }),
    })
    const { lastHiddenState, hiddenStates } = await model.forward(prompts.p33, { hiddenStates: true })
    expect(difference(lastHiddenState, expected).max).toBeLessThan(onCpu ? 1e-4 : 1)
    expect(hiddenStates).toHaveLength(4)
    expect((await model.forward(prompts.p33)).lastHiddenState).toHaveLength(0)
  },
)
