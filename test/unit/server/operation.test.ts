import { setTimeout as sleep } from 'node:timers/promises'
/** What an operator sees: limits, metrics, logs, and pages of other origins. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { eventStream, merged } from '../../../src/server/event-stream'
import { appOf, loadDemo } from './app'

const messages = [{ role: 'user', content: 'Hello' }]
const endless = { messages, ignore_eos: true, temperature: 1 }

let model: Model
beforeAll(async () => {
  model = await loadDemo({ maxSequences: 1 })
})
afterAll(() => model.dispose())

const request = (body: object, signal?: AbortSignal): RequestInit => ({
  method: 'POST',
  body: JSON.stringify(body),
  ...(signal && { signal }),
})
const idle = () => expect.poll(() => model.activity().running + model.activity().waiting).toBe(0)

test('a full queue refuses requests, and says when to ask again', async () => {
  const app = appOf({ demo: model }, { maxWaiting: 2 })
  const controller = new AbortController()
  const running = app.request('/v1/chat/completions', request({ ...endless, n: 16 }, controller.signal))
  await expect.poll(() => model.activity().waiting, { interval: 1 }).toBeGreaterThan(2)
  const refused = await app.request('/v1/chat/completions', request({ messages }))
  expect(refused.status).toBe(429)
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
  expect(await refused.json()).toMatchObject({ error: { type: 'rate_limit_error' } })
  controller.abort()
  await running
  await idle()
})

test('a request that takes too long ends', async () => {
  const app = appOf({ demo: model }, { requestTimeout: 50 })
  const response = await app.request('/v1/chat/completions', request(endless))
  expect(response.status).toBe(504)
  expect(await response.json()).toMatchObject({ error: { code: 'timeout', message: /0\.05 seconds/ } })
  const stream = await app.request('/v1/chat/completions', request({ ...endless, stream: true }))
  expect(await stream.text()).toMatch(/"code":"timeout".*\n\ndata: \[DONE\]\n\n$/)
  await idle()
})

test('metrics count what the model did', async () => {
  const app = appOf({ demo: model, alias: model })
  const { usage } = (await (
    await app.request('/v1/chat/completions', request({ messages, max_tokens: 5, ignore_eos: true }))
  ).json()) as { usage: { prompt_tokens: number } }
  await sleep(100) // some of the event loop's timers
  const response = await app.request('/metrics')
  expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/)
  const text = await response.text()
  const value = (metric: string) => {
    const line = text.split('\n').find((line) => line.startsWith(`${metric} `))
    return line === undefined ? Number.NaN : Number(line.split(' ').at(-1))
  }
  const of = '{model_name="demo"}'
  expect(value(`vllm:prompt_tokens_total${of}`)).toBe(usage.prompt_tokens)
  expect(value(`vllm:generation_tokens_total${of}`)).toBe(5)
  expect(value(`vllm:time_to_first_token_seconds_count${of}`)).toBe(1)
  expect(value(`vllm:inter_token_latency_seconds_count${of}`)).toBe(4)
  expect(value(`vllm:e2e_request_latency_seconds_count${of}`)).toBe(1)
  expect(value('vllm:request_success_total{model_name="demo",finished_reason="length"}')).toBe(1)
  expect(value(`vllm:num_requests_running${of}`)).toBe(0)
  const { queries, hits } = model.activity().prefixCache as { queries: number; hits: number }
  expect(value(`vllm:prefix_cache_queries_total${of}`)).toBe(queries)
  expect(value(`vllm:prefix_cache_hits_total${of}`)).toBe(hits)
  const lag = ['0.5', '0.99', '1'].map((quantile) => value(`billfish:event_loop_lag_seconds{quantile="${quantile}"}`))
  expect(lag).toEqual(lag.toSorted((a, b) => a - b))
  expect(lag.every((seconds) => seconds >= 0 && seconds < 60)).toBe(true)
  expect(queries).toBeGreaterThanOrEqual(usage.prompt_tokens)
  expect(value('billfish:device_memory_bytes{model_name="demo",device="cpu",use="weights"}')).toBe(
    model.memory()[0]?.weights,
  )
  expect(value('billfish:stage_busy_seconds_total{model_name="demo",stage="cpu"}')).toBeGreaterThan(0)
})

test('metrics count drafts where tokens are drafted', async () => {
  await using drafting = await loadDemo({ maxSequences: 1, speculation: { method: 'ngram', minMatch: 1 } })
  const app = appOf({ drafting, plain: model })
  const prompt = { prompt: 'one two one two one two one two', max_tokens: 40, ignore_eos: true, temperature: 0 }
  expect((await app.request('/v1/completions', request(prompt))).status).toBe(200)
  const { speculation } = drafting.activity()
  expect(speculation?.drafts).toBeGreaterThan(0)
  const text = await (await app.request('/metrics')).text()
  const { drafts, draftTokens, acceptedTokens } = speculation as NonNullable<typeof speculation>
  for (const [name, value] of Object.entries({ drafts, draft_tokens: draftTokens, accepted_tokens: acceptedTokens })) {
    expect(text).toContain(`vllm:spec_decode_num_${name}_total{model_name="drafting"} ${value}\n`)
    expect(text).not.toContain(`vllm:spec_decode_num_${name}_total{model_name="plain"}`)
  }
})

test('a request has one line in the log, with the id that its answer has', async () => {
  const lines: Record<string, unknown>[] = []
  const log = (line: object) => lines.push(line as Record<string, unknown>)
  const app = appOf({ demo: model }, { logger: { info: log, error: log } as never })
  const stream = await app.request('/v1/chat/completions', {
    ...request({ messages, max_tokens: 3, stream: true }),
    headers: { 'x-request-id': 'mine-1' },
  })
  expect(lines).toEqual([])
  await stream.text()
  await expect.poll(() => lines.length).toBe(1)
  expect(lines[0]).toMatchObject({ id: 'mine-1', method: 'POST', path: '/v1/chat/completions', status: 200 })
  expect(stream.headers.get('x-request-id')).toBe('mine-1')
  const other = await app.request('/v1/models', { headers: { 'x-request-id': 'a b' } })
  expect(other.headers.get('x-request-id')).toMatch(/^[\da-f-]{36}$/)
  expect(lines[1]).toMatchObject({ id: other.headers.get('x-request-id'), status: 200 })
})

test('pages of allowed origins may ask without a key what they may ask with one', async () => {
  const app = appOf({ demo: model }, { keys: ['secret'], corsOrigins: ['https://a.example'] })
  const ask = (method: string, origin: string) =>
    app.request('/v1/chat/completions', {
      method,
      headers: { origin, 'access-control-request-method': 'POST', 'access-control-request-headers': 'authorization' },
    })
  const preflight = await ask('OPTIONS', 'https://a.example')
  expect(preflight.status).toBe(204)
  expect(preflight.headers.get('access-control-allow-origin')).toBe('https://a.example')
  expect(preflight.headers.get('access-control-allow-headers')).toBe('authorization')
  const refused = await ask('POST', 'https://a.example')
  expect([refused.status, refused.headers.get('access-control-allow-origin')]).toEqual([401, 'https://a.example'])
  expect((await ask('OPTIONS', 'https://b.example')).headers.get('access-control-allow-origin')).toBeNull()
})

test('the endpoints and their fields are described', async () => {
  const app = appOf({ demo: model }, { keys: ['secret'] })
  expect((await app.request('/openapi.json')).status).toBe(401)
  const response = await app.request('/openapi.json', { headers: { 'x-api-key': 'secret' } })
  const { openapi, paths, security } = (await response.json()) as {
    openapi: string
    paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: object }> } }>>
    security: object[]
  }
  expect([openapi, security]).toEqual(['3.1.0', [{ key: [] }]])
  expect(paths['/v1/models/{name}']).toHaveProperty('get')
  expect(paths['/v1/chat/completions']?.post?.requestBody?.content['application/json']?.schema).toMatchObject({
    type: 'object',
    required: ['messages'],
    properties: { n: { anyOf: [{ type: 'integer', minimum: 1, maximum: 16 }, { type: 'null' }] } },
  })
})

test('silence is filled with comments, before the first event, too', async () => {
  async function* slow() {
    await new Promise((resolve) => setTimeout(resolve, 100))
    yield { a: 1 }
    throw new Error('broken')
  }
  const text = await (await eventStream(slow(), undefined, { pingAfter: 20 })).text()
  expect(text).toMatch(/^(: ping\n\n)+data: {"a":1}\n\ndata: {"error":.*}\n\ndata: \[DONE\]\n\n$/)
})

test('merged sources end together', async () => {
  const ended: string[] = []
  async function* count(name: string, fails = false) {
    try {
      for (let i = 0; i < 3; i++) yield `${name}${i}`
      if (fails) throw new Error(name)
      await new Promise((resolve) => setTimeout(resolve, 20))
      yield `${name}3`
    } finally {
      ended.push(name)
    }
  }
  const all: string[] = []
  for await (const item of merged([count('a'), count('b')])) all.push(item)
  expect(all.toSorted()).toEqual(['a0', 'a1', 'a2', 'a3', 'b0', 'b1', 'b2', 'b3'])
  const failing = merged([count('c'), count('d', true)])
  await expect(async () => {
    for await (const _ of failing);
  }).rejects.toThrow('d')
  await expect.poll(() => ended.toSorted()).toEqual(['a', 'b', 'c', 'd'])
})

test('a stream that nobody reads ends, and its sequence with it', async () => {
  const lines: object[] = []
  const logger = { info: (line: object) => lines.push(line), error: () => {} }
  const app = appOf({ demo: model }, { stallTimeout: 50, logger })
  const response = await app.request('/v1/chat/completions', request({ ...endless, stream: true }))
  const reader = response.body?.getReader()
  await reader?.read()
  await idle()
  await expect(
    (async () => {
      while (!(await reader?.read())?.done);
    })(),
  ).rejects.toThrow(/read nothing for 0\.05 seconds/)
  expect(lines).toMatchObject([{ status: 200, stalled: true }])
})

test('a reader that is slow, but reads, is not stalled', async () => {
  const app = appOf({ demo: model }, { stallTimeout: 200 })
  const response = await app.request('/v1/chat/completions', request({ messages, max_tokens: 6, stream: true }))
  let text = ''
  for await (const part of response.body as ReadableStream<Uint8Array>) {
    text += Buffer.from(part).toString()
    await sleep(100)
  }
  expect(text).toMatch(/\[DONE\]\n\n$/)
})
