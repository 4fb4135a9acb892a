/** POST /v1/chat/completions, and what all endpoints share, without sockets. */
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { appOf, loadDemo } from './app'

const messages = [{ role: 'user', content: 'What is the capital of France?' }]
const greedy = { messages, temperature: 0, max_tokens: 12 }

let model: Model
beforeAll(async () => {
  model = await loadDemo()
})
afterAll(() => model.dispose())

const appWith = (options: Parameters<typeof appOf>[1] = {}) => appOf({ demo: model, 'owner/name': model }, options)

type Body = Record<string, unknown>

/** What the tests read of answers, errors and lists. */
interface Answer {
  readonly id: string
  readonly created: number
  readonly choices: readonly { readonly message: { readonly content: string }; readonly finish_reason: string }[]
  readonly usage: Body
  readonly error: { readonly message: string; readonly code: string | null }
  readonly data: readonly { readonly id: string }[]
}

const bodyOf = async (response: Response) => (await response.json()) as Answer

function post(body: unknown, headers: Record<string, string> = {}, app = appWith()): Promise<Response> {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return Promise.resolve(app.request('/v1/chat/completions', { method: 'POST', body: text, headers }))
}

async function events(response: Response): Promise<(Body | string)[]> {
  const text = await response.text()
  expect(text.endsWith('\n\n')).toBe(true)
  return text
    .slice(0, -2)
    .split('\n\n')
    .map((event) => event.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)))
}

const choicesOf = (event: Body | string) => (event as { choices: { index: number; delta: Body }[] }).choices
const textOf = (parts: (Body | string)[], index = 0) =>
  parts
    .slice(0, -1)
    .flatMap((part) => choicesOf(part).filter((choice) => choice.index === index))
    .map(({ delta }) => delta.content ?? '')
    .join('')

test('an answer is what the model generates', async () => {
  const { text, usage, finishReason } = await model.generate(messages, { temperature: 0, maxNewTokens: 12 }).result()
  const response = await post(greedy)
  expect(response.status).toBe(200)
  const answer = await bodyOf(response)
  expect(answer).toMatchObject({
    object: 'chat.completion',
    model: 'demo',
    choices: [{ index: 0, message: { role: 'assistant', content: text, refusal: null }, finish_reason: finishReason }],
    usage: {
      prompt_tokens: usage.promptTokens,
      completion_tokens: usage.completionTokens,
      total_tokens: usage.totalTokens,
      prompt_tokens_details: { cached_tokens: expect.any(Number) },
    },
  })
  expect(answer.id).toMatch(/^chatcmpl-/)
  expect(Math.abs(answer.created - Date.now() / 1000)).toBeLessThan(60)
})

test('a stream has a role, the text, one finish reason, the usage and an end', async () => {
  const whole = await bodyOf(await post(greedy))
  const response = await post({ ...greedy, stream: true, stream_options: { include_usage: true } })
  expect(response.headers.get('content-type')).toBe('text/event-stream; charset=utf-8')
  const parts = await events(response)
  expect(parts.at(-1)).toBe('[DONE]')
  expect(choicesOf(parts[0] as Body)[0]).toMatchObject({
    delta: { role: 'assistant', content: '' },
    finish_reason: null,
  })
  expect(textOf(parts)).toBe(whole.choices[0]?.message.content)
  const reasons = parts
    .slice(0, -1)
    .flatMap((part) =>
      choicesOf(part).map((choice) => (choice as Body & object as { finish_reason: unknown }).finish_reason),
    )
  expect(reasons.filter((reason) => reason !== null)).toEqual([whole.choices[0]?.finish_reason])
  const { prompt_tokens_details: _, ...usage } = whole.usage
  expect(parts.at(-2)).toMatchObject({ choices: [], usage })
  expect(new Set(parts.slice(0, -1).map((part) => (part as Body).id)).size).toBe(1)
})

test('prompts that begin alike are cached, for each key and salt by itself', async () => {
  const app = appWith({ keys: ['one', 'two'] })
  const system = { role: 'system', content: 'Answer in one short sentence, as friendly as you can. '.repeat(4) }
  const cached = async (key: string, cache_salt?: string) => {
    const body = { ...greedy, messages: [system, ...messages], cache_salt }
    const { usage } = await bodyOf(await post(body, { authorization: `Bearer ${key}` }, app))
    return (usage.prompt_tokens_details as { cached_tokens: number }).cached_tokens
  }
  expect(await cached('one')).toBe(0)
  expect(await cached('one')).toBeGreaterThanOrEqual(32)
  expect(await cached('two')).toBe(0)
  expect(await cached('one', 'salt')).toBe(0)
  expect(await cached('one', 'salt')).toBeGreaterThanOrEqual(32)
  expect((await post({ ...greedy, cache_salt: '' })).status).toBe(400)
})

test('choices have seeds of their own, and a seed repeats them, streamed or not', async () => {
  const request = { messages, temperature: 2, max_tokens: 40, n: 3, seed: -7 }
  const [one, other] = [await bodyOf(await post(request)), await bodyOf(await post(request))]
  const texts = one.choices.map(({ message }) => message.content)
  expect(other.choices).toEqual(one.choices)
  expect(new Set(texts).size).toBeGreaterThan(1)
  const parts = await events(await post({ ...request, stream: true }))
  expect([0, 1, 2].map((index) => textOf(parts, index))).toEqual(texts)
})

test('log-probabilities are of every token, streamed or not', async () => {
  const request = { ...greedy, logprobs: true, top_logprobs: 2 }
  type Logprobs = { content: { token: string; logprob: number; bytes: number[]; top_logprobs: object[] }[] } | null
  const logprobsOf = (choice: unknown) => (choice as { logprobs: Logprobs }).logprobs?.content ?? []
  const whole = await bodyOf(await post(request))
  const content = logprobsOf(whole.choices[0])
  expect(content).toHaveLength(Number(whole.usage.completion_tokens))
  expect(content[0]?.top_logprobs).toHaveLength(2)
  const parts = await events(await post({ ...request, stream: true }))
  expect(parts.slice(0, -1).flatMap((part) => choicesOf(part).flatMap(logprobsOf))).toEqual(content)
  expect(
    logprobsOf((await bodyOf(await post({ ...request, top_logprobs: null }))).choices[0])[0]?.top_logprobs,
  ).toEqual([])
})

test.each<[string, Body, object]>([
  ['max_completion_tokens before max_tokens', { ...greedy, max_completion_tokens: 3 }, { completion_tokens: 3 }],
  ['null as if left out', { ...greedy, seed: null, stop: null, n: null, stream: null, tools: null }, {}],
  ['fields that no one knows', { ...greedy, user: 'me', store: true, metadata: {} }, {}],
  ['the role developer', { ...greedy, messages: [{ role: 'developer', content: 'Be brief.' }, ...messages] }, {}],
  ['parts of text', { ...greedy, messages: [{ role: 'user', content: [{ type: 'text', text: 'Hello' }] }] }, {}],
  [
    'a call whose arguments are broken',
    {
      ...greedy,
      messages: [
        ...messages,
        { role: 'assistant', content: null, tool_calls: [{ id: 'a', function: { name: 'f', arguments: '{' } }] },
        ...messages,
      ],
    },
    {},
  ],
])('takes %s', async (_, body, usage) => {
  const response = await post(body)
  const answer = await bodyOf(response)
  expect(answer.error).toBeUndefined()
  expect(answer.usage).toMatchObject(usage)
})

describe('errors', () => {
  test.each<[string, unknown, number, RegExp, string | null]>([
    ['no JSON', '{', 400, /^The body is not JSON: /, null],
    ['no object', [], 400, /^The body must be a JSON object/, null],
    ['no messages', {}, 400, /^messages: /, 'messages'],
    ['no role', { messages: [{ content: 'a' }] }, 400, /^messages\[0\]\.role: /, 'messages[0].role'],
    [
      'an image',
      { messages: [{ role: 'user', content: [{ type: 'image_url' }] }] },
      400,
      /images are not supported/,
      null,
    ],
    ['a number as text', { ...greedy, temperature: '1' }, 400, /^temperature: /, 'temperature'],
    [
      'too many tokens',
      { ...greedy, max_tokens: 1e6 },
      400,
      /^max_tokens is 1000000, but must be at most \d+, .* a larger --max-model-len/,
      null,
    ],
    ['an unknown token', { ...greedy, logit_bias: { 99999999: 1 } }, 400, /logit_bias/, null],
    ['another model', { ...greedy, model: 'gpt-4o' }, 404, /no model 'gpt-4o'; this server has 'demo'/, 'model'],
    [
      'tools of a model whose template has no calls',
      { ...greedy, tools: [{ type: 'function', function: { name: 'f' } }] },
      400,
      /^tools is given, but the chat template .* name it as --tool-call-parser/,
      null,
    ],
    ['functions', { ...greedy, functions: [{}] }, 400, /^functions is not supported/, 'functions'],
    ['alternatives without log-probabilities', { ...greedy, top_logprobs: 2 }, 400, /^top_logprobs /, 'top_logprobs'],
    ['usage without a stream', { ...greedy, stream_options: {} }, 400, /^stream_options /, 'stream_options'],
  ])('%s', async (_, body, status, message, param) => {
    const response = await post(body)
    expect(response.status).toBe(status)
    const { error } = await bodyOf(response)
    expect(error).toMatchObject({ type: 'invalid_request_error', param })
    expect(error.message).toMatch(message)
  })

  test('a body that is too large', async () => {
    expect((await post({ ...greedy, user: 'x'.repeat(1 << 17) })).status).toBe(413)
  })

  test('another path, and another method', async () => {
    const app = appWith()
    expect((await app.request('/v2')).status).toBe(404)
    const response = await app.request('/v1/chat/completions')
    expect(response.status).toBe(405)
    expect(response.headers.get('allow')).toBe('POST')
  })

  test('of a stream that has begun are an event', async () => {
    const stop = new AbortController()
    const response = await post(
      { messages, temperature: 1, stream: true, ignore_eos: true },
      {},
      appWith({ stopped: stop.signal }),
    )
    const reader = (response.body as ReadableStream<Uint8Array>).getReader()
    await reader.read()
    stop.abort(new Error('stopped'))
    let text = ''
    for (let part = await reader.read(); !part.done; part = await reader.read()) text += Buffer.from(part.value)
    expect(text).toMatch(/data: {"error":{"message":"The server failed\.".*}}\n\ndata: \[DONE\]\n\n$/)
  })
})

test('a key is asked for where there are some, except for /health', async () => {
  const app = appWith({ keys: ['one', 'two'] })
  const status = async (headers: Record<string, string>) => (await post(greedy, headers, app)).status
  expect(await status({})).toBe(401)
  expect(await status({ authorization: 'Bearer three' })).toBe(401)
  expect(await status({ authorization: 'bearer two' })).toBe(200)
  expect(await status({ 'x-api-key': 'one' })).toBe(200)
  expect((await app.request('/health')).status).toBe(200)
  const refused = await app.request('/v1/models')
  expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
  expect((await bodyOf(refused)).error.code).toBe('invalid_api_key')
})

test('models are listed, and found by names with slashes', async () => {
  const app = appWith()
  const { data } = await bodyOf(await app.request('/v1/models'))
  expect(data.map(({ id }) => id)).toEqual(['demo', 'owner/name'])
  const { maxModelLength } = model.limits
  for (const path of ['owner/name', 'owner%2Fname']) {
    const found = await bodyOf(await app.request(`/v1/models/${path}`))
    expect(found).toMatchObject({ id: 'owner/name', object: 'model', max_model_len: maxModelLength })
  }
  expect((await app.request('/v1/models/other')).status).toBe(404)
})

test('a server that drains refuses requests and is not healthy', async () => {
  const app = appWith({ draining: true })
  const response = await post(greedy, {}, app)
  expect([response.status, response.headers.get('retry-after')]).toEqual([503, '5'])
  expect((await app.request('/health')).status).toBe(503)
})

test('a reader that leaves ends the generation', async () => {
  const response = await post({ messages, stream: true, ignore_eos: true, temperature: 1 })
  const reader = (response.body as ReadableStream<Uint8Array>).getReader()
  await reader.read()
  expect(model.activity().running).toBe(1)
  await reader.cancel()
  await expect.poll(() => model.activity().running).toBe(0)
  expect(model.activity().cacheTokens.inUse).toBe(0)
})
