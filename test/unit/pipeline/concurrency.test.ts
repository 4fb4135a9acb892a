import { expect, test } from 'vitest'
import { loadModel } from '../../../src/index'
import { difference, golden, greedyTokens, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-gptq-int4-g128'
const expected = golden(name)
const split = { '': 'cpu:1', 'model.embed_tokens': 'cpu:0', 'model.layers.0': 'cpu:0', 'model.layers.1': 'cpu:0' }

test.each([1, 2, 3, 8])('twelve requests at once over two stages, %i of them running', async (maxSequences) => {
  await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, maxSequences, deviceMap: split })
  const requests = Array.from({ length: 12 }, (_, i) => (i % 3 === 0 ? 'p33' : 'p7'))
  const results = await Promise.all(requests.map((prompt) => greedyTokens(model, expected.prompts[prompt])))
  for (const [i, prompt] of requests.entries()) expect(results[i]).toEqual(expected.greedy[prompt])
})

test.each([1, 5, 16, 32])('a prompt in pieces of %i tokens gives what it gives whole', async (maxBatchTokens) => {
  const options = { dtype: 'float32', maxModelLength: 64, maxBatchTokens, deviceMap: split } as const
  await using model = await loadModel(modelDirectory(name), options)
  const prompt = expected.prompts.p33 as number[]
  const { logits, hiddenStates } = await model.forward(prompt, { hiddenStates: true })
  expect(difference(logits, expected.tensor('p33.logits')).max).toBeLessThan(1.5e-4)
  for (const [i, state] of hiddenStates.entries()) {
    const wanted = expected.tensor(i === 0 ? 'p33.embed' : `p33.layer.${i - 1}`)
    expect(difference(state, wanted).max).toBeLessThan(1.5e-4)
  }
  expect(await greedyTokens(model, prompt)).toEqual(expected.greedy.p33)
})

test('the weights and the KV cache are where the deviceMap says', async () => {
  await using model = await loadModel(modelDirectory(name), { maxModelLength: 64, deviceMap: split })
  expect(model.deviceMap).toEqual({
    'model.embed_tokens': 'cpu:0',
    'model.layers.0': 'cpu:0',
    'model.layers.1': 'cpu:0',
    'model.layers.2': 'cpu:1',
    'model.norm': 'cpu:1',
    lm_head: 'cpu:1',
  })
  const [first, second] = model.memory()
  expect(first?.device).toBe('cpu:0')
  expect(second?.device).toBe('cpu:1')
  expect(first?.kvCache).toBe(2 * (second?.kvCache as number)) // two layers and one
  // 3 layers, keys and values, 4 sequences of 64 positions, 2 heads of 32, fp16
  expect((first?.kvCache ?? 0) + (second?.kvCache ?? 0)).toBe(3 * 2 * 4 * 64 * 2 * 32 * 2)
})
