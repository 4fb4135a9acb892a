/** Speculative decoding on real models: the same answers with it as without, in fewer steps. */
import { resolve } from 'node:path'
import { describe, expect, test, vi } from 'vitest'
import {
  type GenerateOptions,
  type GenerationResult,
  type LoadOptions,
  loadModel,
  type Model,
} from '../../../src/index'
import { withConfig } from '../../support/fixture-copies'
import { golden, modelDirectory } from '../../support/fixtures'

const name = 'qwen2-gptq-int4-g128'
const speculation = { method: 'ngram', tokens: 4, minMatch: 1, maxMatch: 3 } as const
const sizes = { deviceMap: 'cpu', dtype: 'float32', maxModelLength: 160, maxSequences: 4 } as const
const split = { '': 'cpu:2', 'model.embed_tokens': 'cpu:0', 'model.layers.0': 'cpu:0', 'model.layers.1': 'cpu:1' }

const load = (options: LoadOptions = {}, directory = modelDirectory(name)) =>
  loadModel(directory, { ...sizes, ...options })

/** A prompt whose tokens repeat, of a model's own golden one. */
const repeated = (model: string) => {
  const tokens = (golden(model).prompts.p33 as number[]).slice(0, 20)
  return [...tokens, ...tokens, ...tokens.slice(0, 9)]
}

/** Every way of sampling whose next token depends on those before. */
const ways: readonly GenerateOptions[] = [
  { temperature: 0 },
  { temperature: 0, logprobs: 2 },
  { temperature: 0.3, seed: 1 },
  { temperature: 0.8, topK: 20, topP: 0.9, seed: 2, logprobs: 0 },
  { temperature: 0.3, repetitionPenalty: 1.1, seed: 3 },
  { temperature: 0, presencePenalty: 0.4, frequencyPenalty: 0.2, logitBias: { 7: 2 } },
  { temperature: 1, seed: 4, logitBias: { 7: 50, 8: 50, 9: 50 } }, // of three tokens: drafts are right for a part
]

const answer = (model: Model, prompt: readonly number[], options: GenerateOptions) =>
  model.generate(prompt, { maxNewTokens: 40, ignoreEos: true, ...options }).result()

/** What comes of a prompt in each way, all of them at the same time, and one after the other. */
async function answers(model: Model, prompt: readonly number[]) {
  const results = await Promise.all(ways.map((way) => answer(model, prompt, way)))
  for (const way of ways) results.push(await answer(model, prompt, way))
  return results
}

/** Answers with these options, and with speculation besides, which had to be of use. */
async function compared(options: LoadOptions, of = name, directory = modelDirectory(of)) {
  const prompt = repeated(of)
  const one = async (given: LoadOptions) => {
    await using model = await load({ ...options, ...given }, directory)
    const results = await answers(model, prompt)
    expect(model.activity().cacheTokens.inUse).toBe(0)
    return { results, steps: model.trace().steps.length, activity: model.activity() }
  }
  const [plain, speculating] = [await one({}), await one({ speculation })]
  expectSame(speculating.results, plain.results)
  const { drafts = 0, draftTokens = 0, acceptedTokens = 0 } = speculating.activity.speculation ?? {}
  expect(acceptedTokens).toBeGreaterThan(0)
  expect(draftTokens).toBeGreaterThanOrEqual(acceptedTokens)
  expect(draftTokens).toBeLessThanOrEqual(4 * drafts)
  expect(speculating.steps).toBeLessThan(plain.steps)
  expect(plain.activity.speculation).toBeUndefined()
  return { plain, speculating }
}

/** Tokens and log-probabilities; the last bits of these depend on how many rows a step has. */
function expectSame(results: readonly GenerationResult[], expected: readonly GenerationResult[]) {
  const tokens = ({ tokenIds, finishReason, logprobs }: GenerationResult) => ({
    tokenIds,
    finishReason,
    likely: logprobs?.map(({ alternatives }) => alternatives.map(({ token }) => token)),
  })
  expect(results.map(tokens)).toEqual(expected.map(tokens))
  const logprobsOf = (all: readonly GenerationResult[]) =>
    all.flatMap(({ logprobs = [] }) =>
      logprobs.flatMap(({ logprob, alternatives }) => [logprob, ...alternatives.map((other) => other.logprob)]),
    )
  const [given, wanted] = [logprobsOf(results), logprobsOf(expected)]
  for (const [i, logprob] of given.entries()) expect(Math.abs(logprob - (wanted[i] as number))).toBeLessThan(1e-3)
}

describe('answers are those without speculation', () => {
  test.each<[string, LoadOptions]>([
    ['on one stage', {}],
    ['over three stages', { deviceMap: split, microBatches: 3 }],
    ['on two ranks', { deviceMap: 'cpu:0,cpu:1', tensorParallelSize: 2 }],
    ['in steps of 16 tokens', { maxBatchTokens: 16 }],
    ['of sequences that preempt each other', { maxCacheTokens: 192 }],
    ['over three stages, of sequences that preempt each other', { maxCacheTokens: 192, deviceMap: split }],
    ['without a prefix cache', { prefixCache: false }],
  ])('%s', async (_, options) => {
    const { speculating } = await compared(options)
    if (options.maxCacheTokens) expect(speculating.activity.preemptions).toBeGreaterThan(0)
  })

  test.each(['qwen2-bf16', 'qwen3-fp8-block', 'qwen3-moe-gptq-int4', 'mistral-fp16'])('of %s', async (model) => {
    await compared({}, model)
  })

  test('under a rotary base that grows (dynamic NTK)', async () => {
    const rope_scaling = { type: 'dynamic', factor: 4, original_max_position_embeddings: 70 }
    await compared(
      {},
      name,
      withConfig(name, (config) => ({ ...config, rope_scaling })),
    )
  })
})

test('models with recurrent states do not speculate, and say so', async () => {
  const warned = vi.spyOn(process, 'emitWarning').mockImplementation(() => {})
  await using model = await load({ speculation }, modelDirectory('qwen3-5-text-bf16'))
  expect(warned).toHaveBeenCalledWith(expect.stringMatching(/speculation has no effect.*recurrent states/), {
    type: 'BillfishWarning',
    code: 'BILLFISH_FALLBACK',
  })
  warned.mockRestore()
  await answer(model, Array(40).fill(5), { temperature: 0 })
  expect(model.activity().speculation).toBeUndefined()
})

test.each([
  [{}, /speculation\.method is undefined, but must be 'ngram'/],
  [{ method: 'eagle' }, /speculation\.method is "eagle", but must be 'ngram'/],
  [{ method: 'ngram', tokens: 0 }, /speculation\.tokens is 0, but must be a whole number from 1 to 32/],
  [{ method: 'ngram', maxMatch: 17 }, /speculation\.maxMatch is 17/],
  [{ method: 'ngram', minMatch: 5, maxMatch: 3 }, /must be an object .* with minMatch up to maxMatch/],
  [{ method: 'ngram', num_speculative_tokens: 4 }, /num_speculative_tokens of speculation; it is called tokens/],
  ['ngram', /speculation is "ngram", but must be an object/],
])('%j is refused', async (wrong, message) => {
  await expect(load({ speculation: wrong as never })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(message),
  })
})

test('the kernels of GPUs check drafts', async () => {
  const prompt = repeated(name)
  const results = async (options: LoadOptions) => {
    await using model = await load({ deviceMap: 'emulated:0', dtype: 'float16', maxModelLength: 96, ...options })
    const some = [ways[0], ways[ways.length - 1]] as GenerateOptions[]
    const answers = await Promise.all(some.map((way) => answer(model, prompt, { ...way, maxNewTokens: 8 })))
    return { answers, accepted: model.activity().speculation?.acceptedTokens }
  }
  const [speculating, plain] = [await results({ speculation }), await results({})]
  expectSame(speculating.answers, plain.answers)
  expect(speculating.accepted).toBeGreaterThan(0)
})

describe('with the demo model', () => {
  const demo = resolve(__dirname, '../../../examples/demo-model')
  const text = 'one two three. one two three. one two three. one two'
  const loadDemo = (options: LoadOptions = {}) => load({ dtype: 'auto', maxModelLength: 256, ...options }, demo)

  test('stop strings and end tokens within a draft end an answer where they do without', async () => {
    const results = async (options: LoadOptions) => {
      await using model = await loadDemo(options)
      const first = await model.generate(text, { temperature: 0, maxNewTokens: 30 }).result()
      const stop = first.text.slice(5, 8)
      const stopTokenIds = [first.tokenIds[4] as number]
      const all = [first]
      for (const way of [{ stop }, { stopTokenIds }, { minNewTokens: 12, stopTokenIds }]) {
        all.push(await model.generate(text, { temperature: 0, maxNewTokens: 30, ...way }).result())
      }
      return all.map(({ text, tokenIds, finishReason, stoppedBy }) => ({ text, tokenIds, finishReason, stoppedBy }))
    }
    expect(await results({ speculation })).toEqual(await results({}))
  })

  test('answers of a form have no drafts, and those beside them have', async () => {
    await using model = await loadDemo({ speculation })
    const form = { structuredOutput: { regex: '(ab){12}!' }, temperature: 0 }
    expect((await model.generate(text, form).result()).text).toBe(`${'ab'.repeat(12)}!`)
    expect(model.activity().speculation).toEqual({ drafts: 0, draftTokens: 0, acceptedTokens: 0 })
    const beside = model.generate(text, { temperature: 0, maxNewTokens: 40, ignoreEos: true, logitBias: { 7: 100 } })
    expect((await model.generate(text, form).result()).text).toBe(`${'ab'.repeat(12)}!`)
    await beside.result()
    expect(model.activity().speculation?.acceptedTokens).toBeGreaterThan(0)
  })

  test('a generation that is left, aborted or disposed of midway gives its blocks back', async () => {
    const model = await loadDemo({ speculation })
    const endless = { temperature: 0, maxNewTokens: 200, ignoreEos: true, logitBias: { 7: 100 } }
    for await (const { tokenIds } of model.generate(text, endless)) if (tokenIds.length > 0) break
    const controller = new AbortController()
    const aborted = model.generate(text, { ...endless, signal: controller.signal })
    for await (const _ of aborted) {
      controller.abort()
      break
    }
    await expect.poll(() => model.activity().cacheTokens.inUse).toBe(0)
    const disposed = model.generate(text, endless).result()
    await Promise.all([expect(disposed).rejects.toMatchObject({ code: 'DISPOSED' }), model.dispose()])
  })
})
