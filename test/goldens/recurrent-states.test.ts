/** Models with recurrent states: prompts longer than a chunk of other engines, in pieces; slots that change hands. */
import { describe, expect, test } from 'vitest'
import { type LoadOptions, loadModel, type Model } from '../../src/index'
import { difference, golden, greedyTokens, hybridModels, modelDirectory } from '../support/fixtures'

/** fp32: other splits of the same computation by transformers are off by 3e-4 (fixtures' README, Tolerances). */
const tolerance = 5e-4

const load = (name: string, options: LoadOptions) =>
  loadModel(modelDirectory(name), { dtype: 'float32', deviceMap: 'cpu', maxModelLength: 160, ...options })

describe.each(hybridModels)('%s', (name) => {
  const expected = golden(name)
  const prompt = expected.prompts.p100 as number[]

  test.each([512, 64, 37, 2, 1])('100 tokens, %i a step', async (maxBatchTokens) => {
    await using model = await load(name, { maxBatchTokens })
    const { logits } = await model.forward(prompt)
    expect(difference(logits, expected.tensor('p100.logits')).max).toBeLessThanOrEqual(tolerance)
    expect(await greedyTokens(model, prompt)).toEqual(expected.greedy.p100)
  })

  test('on emulated devices, split, in pieces', async () => {
    const deviceMap = { 'model.embed_tokens': 'emulated:0', 'model.layers.0': 'emulated:0', '': 'emulated:1' }
    await using model = await load(name, { dtype: 'float16', deviceMap, maxBatchTokens: 37 })
    expect(await greedyTokens(model, prompt)).toEqual(expected.greedy.p100)
  })

  test('states in use are those of the sequences that run', async () => {
    await using model = await load(name, { maxSequences: 4 })
    const share = () => model.memory().map(({ states, statesInUse }) => statesInUse / states)
    expect(share()).toEqual([0])
    let first = true
    for await (const { tokenIds } of model.generate(prompt, { maxNewTokens: 20, ignoreEos: true })) {
      if (tokenIds.length > 0 && first) expect(share()).toEqual([0.25])
      first = tokenIds.length === 0
    }
    expect(share()).toEqual([0])
  })

  test('preempted sequences are recomputed, in slots that others had', async () => {
    const prompts = ['p33', 'p7', 'p100', 'p7', 'p33'].map((prompt) => expected.prompts[prompt] as number[])
    const options = { maxNewTokens: 50, temperature: 0, ignoreEos: true }
    const answer = async (model: Model, prompt: number[]) => (await model.generate(prompt, options).result()).tokenIds
    await using roomy = await load(name, { maxSequences: 1 })
    const wanted: (readonly number[])[] = []
    for (const prompt of prompts) wanted.push(await answer(roomy, prompt))
    // Room for one long sequence, of three that run and grow.
    await using model = await load(name, { maxSequences: 3, maxBatchTokens: 40, maxCacheTokens: 192 })
    expect(await Promise.all(prompts.map((prompt) => answer(model, prompt)))).toEqual(wanted)
    expect(model.activity().preemptions).toBeGreaterThan(0)
    for (const { planned, ...allocated } of model.memory()) expect(allocated).toMatchObject(planned)
    expect(model.memory()[0]?.states).toBe(3 * (roomy.memory()[0]?.states as number))
  })
})
