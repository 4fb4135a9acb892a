/** POST /v1/completions, without sockets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { appOf, loadDemo } from './app'

const prompt = 'The capital of France is'
const greedy = { prompt, temperature: 0, max_tokens: 8 }

let model: Model
beforeAll(async () => {
  model = await loadDemo()
})
afterAll(() => model.dispose())

interface Choice {
  readonly index: number
  readonly text: string
  readonly finish_reason: string | null
  readonly logprobs: {
    readonly tokens: string[]
    readonly token_logprobs: number[]
    readonly top_logprobs: Record<string, number>[]
    readonly text_offset: number[]
  } | null
}
interface Answer {
  readonly choices: readonly Choice[]
  readonly usage: { readonly prompt_tokens: number; readonly completion_tokens: number } | null
  readonly error: { readonly message: string; readonly param: string | null }
}

const post = async (body: object) =>
  appOf({ demo: model }).request('/v1/completions', { method: 'POST', body: JSON.stringify(body) })
const answerOf = async (body: object) => (await (await post(body)).json()) as Answer

async function partsOf(body: object): Promise<Answer[]> {
  const text = await (await post({ ...body, stream: true })).text()
  const events = text.trim().split('\n\n')
  expect(events.at(-1)).toBe('data: [DONE]')
  return events.slice(0, -1).map((event) => JSON.parse(event.replace(/^data: /, '')))
}

test('an answer is what the model generates, of 16 tokens unless more are asked for', async () => {
  const { text, usage, finishReason } = await model.generate(prompt, { temperature: 0, maxNewTokens: 8 }).result()
  const answer = await answerOf(greedy)
  expect(answer).toMatchObject({
    object: 'text_completion',
    model: 'demo',
    choices: [{ index: 0, text, logprobs: null, finish_reason: finishReason }],
    usage: { prompt_tokens: usage.promptTokens, completion_tokens: usage.completionTokens },
  })
  const { usage: unlimited } = await answerOf({ prompt, temperature: 0, ignore_eos: true })
  expect(unlimited?.completion_tokens).toBe(16)
})

test('many prompts, texts or token ids, have n choices each in their order', async () => {
  const ids = await model.tokenizer?.encode('Hello')
  const { choices, usage } = await answerOf({ ...greedy, prompt: [prompt, 'Hello'], n: 2 })
  expect(choices.map(({ index }) => index)).toEqual([0, 1, 2, 3])
  expect(choices[1]?.text).toBe(choices[0]?.text)
  expect(choices[2]?.text).not.toBe(choices[0]?.text)
  const one = await answerOf({ ...greedy, prompt: ids })
  expect(one.choices[0]?.text).toBe(choices[2]?.text)
  const many = await answerOf({ ...greedy, prompt: [ids, ids] })
  expect(many.choices.map(({ text }) => text)).toEqual([choices[2]?.text, choices[2]?.text])
  expect(many.usage?.prompt_tokens).toBe(2 * (one.usage?.prompt_tokens ?? 0))
  const separate = await answerOf({ ...greedy, prompt: [prompt] })
  expect(usage?.prompt_tokens).toBe((separate.usage?.prompt_tokens ?? 0) + (one.usage?.prompt_tokens ?? 0))
})

test('a stream says what the answer says, with an echoed prompt before it', async () => {
  const request = { ...greedy, prompt: [prompt, 'Hello'], echo: true }
  const whole = await answerOf(request)
  expect(whole.choices[0]?.text.startsWith(prompt)).toBe(true)
  const parts = await partsOf({ ...request, stream_options: { include_usage: true } })
  expect(parts.at(-1)).toMatchObject({ choices: [], usage: whole.usage })
  for (const { index, text, finish_reason } of whole.choices) {
    const own = parts.flatMap(({ choices }) => choices).filter((choice) => choice.index === index)
    expect(own.map((choice) => choice.text).join('')).toBe(text)
    expect(own.map((choice) => choice.finish_reason).filter((reason) => reason !== null)).toEqual([finish_reason])
  }
})

test('log-probabilities are those of the tokens, streamed or not', async () => {
  const request = { ...greedy, logprobs: 2 }
  const [choice] = (await answerOf(request)).choices
  const { logprobs } = choice as Choice
  const result = await model.generate(prompt, { temperature: 0, maxNewTokens: 8, logprobs: 2 }).result()
  expect(logprobs?.token_logprobs).toEqual(result.logprobs?.map(({ logprob }) => logprob))
  expect(logprobs?.tokens).toEqual(result.tokenIds.map((id) => model.tokenizer?.decode(id)))
  for (const [i, top] of (logprobs?.top_logprobs ?? []).entries()) {
    expect(Object.keys(top).length).toBeLessThanOrEqual(2)
    expect(Math.max(...Object.values(top))).toBeCloseTo(logprobs?.token_logprobs[i] as number, 5) // greedy
  }
  expect(logprobs?.text_offset[0]).toBe(0)
  const parts = (await partsOf(request)).flatMap(({ choices }) => choices)
  for (const key of ['tokens', 'token_logprobs', 'top_logprobs', 'text_offset'] as const) {
    expect(parts.flatMap((part): unknown[] => part.logprobs?.[key] ?? [])).toEqual(logprobs?.[key])
  }
})

describe('errors', () => {
  test.each<[string, object, string]>([
    ['no prompt', {}, 'prompt'],
    ['an empty list', { prompt: [] }, 'prompt'],
    ['a suffix', { ...greedy, suffix: '}' }, 'suffix'],
    ['the best of more', { ...greedy, best_of: 3 }, 'best_of'],
    ['log-probabilities of the prompt', { ...greedy, echo: true, logprobs: 1 }, 'logprobs'],
    ['too many choices', { ...greedy, prompt: Array(1000).fill('a'), n: 2 }, 'prompt'],
  ])('%s', async (_, body, param) => {
    const response = await post(body)
    expect(response.status).toBe(400)
    expect(((await response.json()) as Answer).error.param).toBe(param)
  })

  test('of one prompt end the others', async () => {
    const long = Array(5000).fill(1)
    expect((await post({ ...greedy, prompt: [[1, 2], long], max_tokens: 500, ignore_eos: true })).status).toBe(400)
    await expect.poll(() => model.activity().running + model.activity().waiting).toBe(0)
  })
})
