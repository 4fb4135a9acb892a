import { resolve } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { loadTokenizer } from '../../../src/generation/tokenizer'
import { type GenerateOptions, loadModel, type Model } from '../../../src/index'

const directory = resolve(__dirname, '../../../examples/demo-model')
const question = [{ role: 'user' as const, content: 'Why pad a weight matrix?' }]
let model: Model

beforeAll(async () => {
  model = await loadModel(directory, { maxModelLength: 512 })
})
afterAll(() => model.dispose())

const answer = (options: GenerateOptions) => model.generate(question, { temperature: 0, ...options }).result()

test('the chunks add up to the result', async () => {
  const generation = model.generate(question, { temperature: 0, logprobs: 2 })
  let text = ''
  const tokenIds: number[] = []
  for await (const chunk of generation) {
    text += chunk.text
    tokenIds.push(...chunk.tokenIds)
    expect(chunk.logprobs).toHaveLength(chunk.tokenIds.length)
  }
  const result = await generation.result()
  expect({ text, tokenIds }).toEqual({ text: result.text, tokenIds: result.tokenIds })
  expect(result.finishReason).toBe('stop')
  expect(result.stoppedBy).toBe(2047)
  expect(result.usage.totalTokens).toBe(result.usage.promptTokens + tokenIds.length)
  expect(result.timings.timeToFirstToken).toBeGreaterThan(0)
  for (const { token, logprob, alternatives } of result.logprobs ?? []) {
    expect(alternatives).toHaveLength(2)
    expect(alternatives[0]).toEqual({ token, logprob }) // greedy: the token itself is the likeliest
    expect(logprob).toBeLessThanOrEqual(0)
  }
})

test('maxNewTokens ends it, and UTF-8 is never cut', async () => {
  const whole = await model.generate([{ role: 'user', content: '什么是量化?' }], { temperature: 0 }).result()
  for (let length = 1; length <= 12; length++) {
    const part = await model
      .generate([{ role: 'user', content: '什么是量化?' }], { temperature: 0, maxNewTokens: length })
      .result()
    expect(part.finishReason).toBe('length')
    expect(part.tokenIds).toEqual(whole.tokenIds.slice(0, length))
    expect(whole.text.startsWith(part.text.replace(/�+$/, ''))).toBe(true)
  }
})

test('stop strings and stop tokens', async () => {
  const { text, tokenIds } = await answer({})
  const stop = text.slice(12, 21)
  const stopped = await answer({ stop: [stop, 'never to be seen'] })
  expect(stopped).toMatchObject({ text: text.slice(0, text.indexOf(stop)), finishReason: 'stop', stoppedBy: stop })
  const token = tokenIds[5] as number
  const byToken = await answer({ stopTokenIds: [token] })
  expect(byToken.tokenIds).toEqual(tokenIds.slice(0, tokenIds.indexOf(token) + 1))
})

test('the seed determines the result, and is reported', async () => {
  const drawn = await answer({ temperature: 1.5, maxNewTokens: 40 })
  const again = await answer({ temperature: 1.5, maxNewTokens: 40, seed: drawn.seed })
  expect(again.tokenIds).toEqual(drawn.tokenIds)
  const others = await Promise.all([1, 2, 3].map((seed) => answer({ temperature: 1.5, maxNewTokens: 40, seed })))
  expect(new Set(others.map(({ text }) => text)).size).toBe(3)
})

test('a sample does not depend on what else runs', async () => {
  const alone = await answer({ temperature: 1, seed: 7, maxNewTokens: 40 })
  const among = await Promise.all([7, 8, 9, 7].map((seed) => answer({ temperature: 1, seed, maxNewTokens: 40 })))
  expect(among[0]?.tokenIds).toEqual(alone.tokenIds)
  expect(among[3]?.tokenIds).toEqual(alone.tokenIds)
})

test('logit bias, penalties and minNewTokens act', async () => {
  const { tokenIds } = await answer({})
  const first = tokenIds[0] as number
  expect((await answer({ logitBias: { [first]: -100 } })).tokenIds[0]).not.toBe(first)
  const forced = await answer({ logitBias: new Map([[300, 100]]), maxNewTokens: 3, ignoreEos: true })
  expect(forced.tokenIds).toEqual([300, 300, 300])
  const both = { logitBias: { 300: 100, 301: 100 }, maxNewTokens: 12, ignoreEos: true }
  expect(new Set((await answer({ ...both, frequencyPenalty: 2 })).tokenIds)).toEqual(new Set([300, 301]))
  const longer = await answer({ minNewTokens: tokenIds.length + 5 })
  expect(longer.tokenIds.length).toBeGreaterThanOrEqual(tokenIds.length + 5)
})

test('text, messages and token ids', async () => {
  const text = 'The capital of France is'
  const fromText = await model.generate(text, { temperature: 0, maxNewTokens: 4 }).result()
  const ids = (await loadTokenizer(directory)).encode(text)
  for (const input of [ids, Int32Array.from(ids)]) {
    const fromIds = await model.generate(input, { temperature: 0, maxNewTokens: 4 }).result()
    expect(fromIds.tokenIds).toEqual(fromText.tokenIds)
  }
})

test.each([
  [{ temperature: -1 }, /temperature is -1/],
  [{ topP: 0 }, /topP is 0/],
  [{ maxNewTokens: 0 }, /maxNewTokens is 0/],
  [{ maxNewTokens: 5000 }, /5000/],
  [{ stop: '' }, /stop/],
  [{ stopTokenIds: [-1] }, /stopTokenIds/],
  [{ logitBias: { 99999: 1 } }, /99999/],
  [{ nonsense: 1 }, /no option nonsense/],
])('%j is refused', (options, message) => {
  const run = () => model.generate(question, options as GenerateOptions)
  expect(run).toThrow(expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(message) }))
})

test.each([[[]], [[2048]], [[-1]], [[1.5]], [''], [[{ role: 'user' }]], [{}], [null], [7]])(
  'input %j is refused',
  (input) => {
    expect(() => model.generate(input as string)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }))
  },
)

test('forward refuses what it cannot run', async () => {
  for (const ids of [[], [2048], [-1], [0.5], Array(513).fill(1)]) {
    await expect(model.forward(ids)).rejects.toMatchObject({ code: 'INVALID_OPTION' })
  }
})
