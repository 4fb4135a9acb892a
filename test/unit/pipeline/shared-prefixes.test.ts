/** The prefix cache on real models: the same answers with it as without, and what it reports. */
import { join, resolve } from 'node:path'
import { describe, expect, test } from 'vitest'
import { type GenerateOptions, type LoadOptions, loadModel, type Model } from '../../../src/index'
import { withConfig } from '../../support/fixture-copies'
import { difference, golden, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-gptq-int4-g128'
const { prompts } = golden(name)
const p33 = prompts.p33 as number[]
/** What all prompts begin with: two whole blocks and a part of one. */
const beginning = [...p33, ...p33, ...p33].slice(0, 75)
const endings = Array.from({ length: 6 }, (_, i) => [...beginning, ...p33.slice(i, 3 * i + 1)])
const split = { '': 'cpu:2', 'model.embed_tokens': 'cpu:0', 'model.layers.0': 'cpu:0', 'model.layers.1': 'cpu:1' }
const sizes = { dtype: 'float32', maxModelLength: 192, maxSequences: 4 } as const

const load = (options: LoadOptions = {}, directory = modelDirectory(name)) =>
  loadModel(directory, { deviceMap: 'cpu', ...sizes, ...options })

const answer = (model: Model, prompt: readonly number[], options: GenerateOptions = {}) =>
  model.generate(prompt, { maxNewTokens: 24, temperature: 0, ignoreEos: true, ...options }).result()

/** Greedy and sampled answers to all prompts, two of each, since the second time everything may be cached. */
async function answers(model: Model): Promise<(readonly number[])[]> {
  const all: (readonly number[])[] = []
  for (let round = 0; round < 2; round++) {
    const results = await Promise.all(
      endings.flatMap((prompt, seed) => [answer(model, prompt), answer(model, prompt, { temperature: 1, seed })]),
    )
    all.push(...results.map(({ tokenIds }) => tokenIds))
  }
  return all
}

const expected = load({ prefixCache: false }).then(async (model) => {
  const all = await answers(model)
  expect(model.activity().prefixCache).toBeUndefined()
  await model.dispose()
  return all
})

describe('prompts that begin alike', () => {
  test.each<[string, LoadOptions]>([
    ['on one stage', {}],
    ['over three stages', { deviceMap: split, microBatches: 3 }],
    ['on two ranks', { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2 }],
    ['in pieces of 16 tokens', { maxBatchTokens: 16 }],
    ['that preempt each other', { maxCacheTokens: 224 }],
    ['that preempt each other over three stages', { maxCacheTokens: 224, deviceMap: split, microBatches: 2 }],
  ])('have the answers that they have without the cache, %s', async (_, options) => {
    await using model = await load(options)
    expect(await answers(model)).toEqual(await expected)
    const { prefixCache, cacheTokens, preemptions } = model.activity()
    const queries = 4 * endings.reduce((sum, { length }) => sum + length, 0)
    expect(prefixCache?.queries).toBe(queries)
    expect(prefixCache?.hits).toBeGreaterThan(queries / 2)
    expect(prefixCache?.blocks).toBeGreaterThan(2)
    expect(cacheTokens.inUse).toBe(0)
    expect(model.memory().map(({ kvCacheInUse }) => kvCacheInUse)).toEqual(model.memory().map(() => 0))
    if (options.maxCacheTokens) expect(preemptions).toBeGreaterThan(0)
  })

  test('are not computed again', async () => {
    await using model = await load()
    expect((await answer(model, beginning)).usage).toMatchObject({ promptTokens: 75, cachedTokens: 0 })
    const rows = () => model.trace().steps.at(-1)?.tokens
    for (const [prompt, cached] of [
      [beginning, 64],
      [beginning.slice(0, 64), 32], // the last token is computed for its logits
      [beginning.slice(0, 65), 64],
      [beginning.slice(0, 32), 0],
      [beginning.slice(1), 0],
    ] as const) {
      const { usage } = await answer(model, prompt, { maxNewTokens: 1 })
      expect([usage.cachedTokens, rows()]).toEqual([cached, prompt.length - cached])
    }
  })

  test('share nothing across salts', async () => {
    await using model = await load()
    const cached = async (cacheSalt?: string) => {
      const { usage, tokenIds } = await answer(model, beginning, { cacheSalt })
      return [usage.cachedTokens, tokenIds]
    }
    const [, tokens] = await cached('one')
    expect(await cached('two')).toEqual([0, tokens])
    expect(await cached()).toEqual([0, tokens])
    expect(await cached('one')).toEqual([64, tokens])
    await expect(cached('')).rejects.toMatchObject({ code: 'INVALID_OPTION' })
    await expect(cached('x'.repeat(1025))).rejects.toThrow(/cacheSalt.*1 to 1024 characters/)
  })

  test('are found by the next turn of a chat, answers included', async () => {
    const conversation = async (options: LoadOptions) => {
      await using model = await load(options)
      let history = p33.slice(0, 20)
      const turns: { cached: number; tokens: readonly number[] }[] = []
      for (let turn = 0; turn < 3; turn++) {
        const { tokenIds, usage } = await answer(model, history, { maxNewTokens: 30 })
        turns.push({ cached: usage.cachedTokens, tokens: tokenIds })
        history = [...history, ...tokenIds, ...p33.slice(turn, turn + 4)]
      }
      return turns
    }
    const [with_, without] = [await conversation({}), await conversation({ prefixCache: false })]
    expect(with_.map(({ tokens }) => tokens)).toEqual(without.map(({ tokens }) => tokens))
    expect(with_.map(({ cached }) => cached)).toEqual([0, 32, 64]) // of 20, 54 and 88 tokens
    expect(without.map(({ cached }) => cached)).toEqual([0, 0, 0])
  })

  test('are still found after an abort', async () => {
    await using model = await load()
    const generation = model.generate(beginning, { maxNewTokens: 90, ignoreEos: true })
    for await (const { tokenIds } of generation) if (tokenIds.length > 0) break
    expect((await answer(model, beginning)).usage.cachedTokens).toBe(64)
    expect(model.activity().cacheTokens.inUse).toBe(0)
  })

  test('have their own keys and values under another rotary base (dynamic NTK)', async () => {
    const rope_scaling = { type: 'dynamic', factor: 4, original_max_position_embeddings: 50 }
    const directory = withConfig(name, (config) => ({ ...config, rope_scaling }))
    const lengths = [75, 70, 75, 40, 33, 75]
    const results = async (prefixCache: boolean) => {
      await using model = await load({ prefixCache }, directory)
      const all = []
      for (const length of lengths) all.push(await answer(model, beginning.slice(0, length)))
      return all
    }
    const [cached, cold] = [await results(true), await results(false)]
    expect(cached.map(({ tokenIds }) => tokenIds)).toEqual(cold.map(({ tokenIds }) => tokenIds))
    expect(cached.map(({ usage }) => usage.cachedTokens)).toEqual([0, 0, 64, 0, 32, 64])
  })

  test('are attended to through a sliding window', async () => {
    const directory = modelDirectory('mistral-fp16') // whose window is 16
    const all = golden('mistral-fp16').prompts.p33 as number[]
    const prompt = [...all, ...all, ...all]
    const results = async (prefixCache: boolean) => {
      await using model = await load({ prefixCache }, directory)
      return [await answer(model, prompt), await answer(model, prompt), await answer(model, prompt.slice(0, 90))]
    }
    const [cached, cold] = [await results(true), await results(false)]
    expect(cached.map(({ tokenIds }) => tokenIds)).toEqual(cold.map(({ tokenIds }) => tokenIds))
    expect(cached.map(({ usage }) => usage.cachedTokens)).toEqual([0, 96, 64])
  })
})

test('the kernels of GPUs read shared blocks', async () => {
  const emulated = { deviceMap: 'emulated:0', dtype: 'float16', maxModelLength: 96, maxSequences: 2 } as const
  const results = async (prefixCache: boolean) => {
    await using model = await load({ ...emulated, prefixCache })
    const first = await answer(model, beginning, { maxNewTokens: 3 })
    const both = [beginning, [...beginning.slice(0, 70), 5]]
    return [first, ...(await Promise.all(both.map((prompt) => answer(model, prompt, { maxNewTokens: 3 }))))]
  }
  const [cached, cold] = [await results(true), await results(false)]
  expect(cached.map(({ tokenIds }) => tokenIds)).toEqual(cold.map(({ tokenIds }) => tokenIds))
  expect(cached.map(({ usage }) => usage.cachedTokens)).toEqual([0, 64, 64])
})

describe('beside generations', () => {
  test('forward() computes all rows, and leaves nothing behind', async () => {
    await using model = await load()
    const cold = await model.forward(beginning, { hiddenStates: true })
    expect(model.activity().prefixCache).toEqual({ queries: 0, hits: 0, blocks: 0 })
    await answer(model, beginning)
    const warm = await model.forward(beginning, { hiddenStates: true })
    expect(warm.logits).toEqual(cold.logits)
    expect(warm.hiddenStates).toEqual(cold.hiddenStates)
    expect(model.activity().prefixCache).toMatchObject({ queries: 75, hits: 0 })
  })

  test('embed() and score() share blocks as far as the last token goes', async () => {
    await using model = await load()
    const [cold] = (await model.embed([beginning])).embeddings as [Float32Array]
    const [other] = (await model.embed([[...beginning.slice(0, 70), 5]])).embeddings as [Float32Array]
    const [warm] = (await model.embed([beginning])).embeddings as [Float32Array]
    expect(model.activity().prefixCache).toMatchObject({ queries: 75 + 71 + 75, hits: 2 * 64 })
    expect(difference(warm, cold).max).toBeLessThan(1e-5)
    expect(difference(other, cold).max).toBeGreaterThan(1e-3)
    await model.embed([beginning], { cacheSalt: 'a tenant' })
    expect(model.activity().prefixCache).toMatchObject({ hits: 2 * 64 })
    const answers = [3, 4] as const
    const [first, second] = [await model.score([beginning], { answers }), await model.score([beginning], { answers })]
    expect(difference(second, first).max).toBeLessThan(1e-6)
  })

  test('models with recurrent states have no prefix cache', async () => {
    await using model = await load({}, modelDirectory('qwen3-5-text-bf16'))
    const prompt = p33.map((token) => token % 256)
    const [first, second] = [await answer(model, prompt), await answer(model, prompt)]
    expect(second.tokenIds).toEqual(first.tokenIds)
    expect(second.usage.cachedTokens).toBe(0)
    expect(model.activity().prefixCache).toBeUndefined()
  })

  test('models whose tokens see later ones have none either', async () => {
    await using model = await loadModel(resolve(__dirname, '../../fixtures/models-2026', 'gte-qwen2'), sizes)
    expect(model.activity().prefixCache).toBeUndefined()
  })

  test('a disposed model ends what shares blocks', async () => {
    const model = await load()
    await answer(model, beginning)
    const running = [1, 2, 3].map((token) => answer(model, [...beginning, token], { maxNewTokens: 90 }))
    await model.dispose()
    for (const one of running) await expect(one).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  test('the demo model takes text that begins alike', async () => {
    await using model = await loadModel(join(__dirname, '../../../examples/demo-model'), { deviceMap: 'cpu' })
    const system = {
      role: 'system',
      content: 'You answer questions about animals, in one short sentence each. '.repeat(4),
    }
    const ask = async (content: string) =>
      (await model.generate([system, { role: 'user', content }], { maxNewTokens: 4 }).result()).usage
    const first = await ask('What does a fox eat?')
    const second = await ask('Where does a hen live?')
    expect(first.cachedTokens).toBe(0)
    expect(second.cachedTokens).toBeGreaterThanOrEqual(32)
    expect(second.cachedTokens).toBeLessThan(second.promptTokens)
  })
})
