/** OpenAI's Responses API: its client, unmodified, and what requests become. */
import OpenAI from 'openai'
import { zodTextFormat } from 'openai/helpers/zod'
import type { ResponseInput, ResponseStreamEvent } from 'openai/resources/responses/responses'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { z } from 'zod'
import type { Model } from '../../../src'
import { type Script, scriptedModel, weatherCall } from '../../support/scripted-chat'
import { appOf, loadDemo } from './app'

const weather = {
  type: 'function' as const,
  name: 'weather',
  description: 'The weather of a city',
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
  strict: false,
}

function clientOf(model: Model) {
  const app = appOf({ demo: model })
  return new OpenAI({
    apiKey: 'none',
    maxRetries: 0,
    baseURL: 'http://billfish.test/v1',
    fetch: async (url, init) => {
      const response = await app.request(String(url), init as RequestInit)
      init?.signal?.throwIfAborted() // as fetch() over a socket
      return response
    },
  })
}

function scripted(...scripts: Script[]) {
  const { model, asked } = scriptedModel(scripts)
  return { client: clientOf(model), asked }
}

let model: Model
beforeAll(async () => {
  model = await loadDemo()
})
afterAll(() => model.dispose())

describe('a loaded model', () => {
  const request = { model: 'demo', input: 'Hello', instructions: 'Be brief.', temperature: 0, max_output_tokens: 40 }

  test('answers, whole and streamed', async () => {
    const messages = [
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
    ]
    const { content, usage } = await model.chat(messages, { maxNewTokens: 40, temperature: 0 }).result()
    const whole = await clientOf(model).responses.create({ ...request, metadata: { ticket: '7' } })
    const streamed = await clientOf(model).responses.stream(request).finalResponse()
    for (const answer of [whole, streamed]) {
      expect(answer).toMatchObject({ object: 'response', status: 'completed', model: 'demo', incomplete_details: null })
      expect(answer.output).toMatchObject([
        { type: 'message', role: 'assistant', status: 'completed', content: [{ type: 'output_text', text: content }] },
      ])
      expect(answer.output_text).toBe(content)
      expect(answer.usage).toMatchObject({
        input_tokens: usage.promptTokens,
        output_tokens: usage.completionTokens,
        total_tokens: usage.totalTokens,
      })
    }
    expect(whole).toMatchObject({ metadata: { ticket: '7' }, instructions: 'Be brief.', max_output_tokens: 40 })
  })

  test('says that its length cut it off', async () => {
    for (const stream of [false, true]) {
      const short = { ...request, max_output_tokens: 1 }
      const client = clientOf(model)
      const answer = stream
        ? await client.responses.stream(short).finalResponse()
        : await client.responses.create(short)
      expect(answer).toMatchObject({ status: 'incomplete', incomplete_details: { reason: 'max_output_tokens' } })
    }
  })

  test('parses answers of a schema', async () => {
    const format = zodTextFormat(z.object({ a: z.enum(['x', 'y']) }), 'answer')
    const answer = await clientOf(model).responses.parse({ ...request, max_output_tokens: 200, text: { format } })
    expect(['x', 'y']).toContain(answer.output_parsed?.a)
  })

  test('reports log-probabilities where they are asked for', async () => {
    const include = ['message.output_text.logprobs' as const]
    const { output, output_text } = await clientOf(model).responses.create({ ...request, include, top_logprobs: 2 })
    const [item] = output
    const [part] = item?.type === 'message' ? item.content : []
    const logprobs = part?.type === 'output_text' ? (part.logprobs ?? []) : []
    expect(logprobs.map(({ token }) => token).join('')).toBe(output_text)
    expect(logprobs.every(({ top_logprobs }) => top_logprobs.length === 2)).toBe(true)
  })

  test('frees the sequence of a stream that is left, and of an answer that is aborted', async () => {
    const long = { ...request, max_output_tokens: 900, ...({ ignore_eos: true } as object) }
    const stream = await clientOf(model).responses.create({ ...long, stream: true })
    for await (const event of stream) if (event.type === 'response.output_text.delta') break
    await expect.poll(() => model.activity().running).toBe(0)
    const controller = new AbortController()
    const answer = clientOf(model).responses.create(long, { signal: controller.signal })
    await expect.poll(() => model.activity().running).toBe(1)
    controller.abort()
    await expect(answer).rejects.toThrow(OpenAI.APIUserAbortError)
    await expect.poll(() => model.activity().running).toBe(0)
  })
})

const thoughtfulCall = {
  parts: ['<think>', 'Hm', '</think>', '\n\n', 'Let me look.\n', ...weatherCall('Oslo')],
  reasoning: 'qwen3' as const,
}

test('streams the events of every item, numbered, and ends with the whole answer', async () => {
  const { client } = scripted(thoughtfulCall)
  const stream = await client.responses.create({ model: 'demo', input: 'Hi', tools: [weather], stream: true })
  const events: ResponseStreamEvent[] = []
  for await (const event of stream) events.push(event)
  expect(events.map(({ sequence_number }) => sequence_number)).toEqual(events.map((_, index) => index))
  const kinds = events.map(({ type }) => type.replace('response.', ''))
  expect(kinds.filter((kind, index) => kind !== kinds[index - 1])).toEqual([
    ...['created', 'in_progress'],
    ...['output_item.added', 'content_part.added', 'reasoning_text.delta', 'reasoning_text.done'],
    ...['content_part.done', 'output_item.done'],
    ...['output_item.added', 'content_part.added', 'output_text.delta', 'output_text.done'],
    ...['content_part.done', 'output_item.done'],
    ...['output_item.added', 'function_call_arguments.delta', 'function_call_arguments.done', 'output_item.done'],
    'completed',
  ])
  const last = events.at(-1)
  const done = events.flatMap((event) => (event.type === 'response.output_item.done' ? [event.item] : []))
  expect(last?.type === 'response.completed' && last.response.output).toEqual(done)
  expect(done).toMatchObject([
    { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'Hm' }] },
    { type: 'message', content: [{ type: 'output_text', text: 'Let me look.', annotations: [] }] },
    { type: 'function_call', name: 'weather', arguments: '{"city": "Oslo"}', status: 'completed' },
  ])
})

test('takes its own items back, with the results of calls', async () => {
  const { client, asked } = scripted(thoughtfulCall, { parts: ['It rains.'] })
  const first = await client.responses.create({ model: 'demo', input: 'Hi', tools: [weather] })
  const results = first.output.flatMap((item) =>
    item.type === 'function_call'
      ? [{ type: 'function_call_output' as const, call_id: item.call_id, output: 'rain' }]
      : [],
  )
  const { output_text } = await client.responses.create({
    model: 'demo',
    instructions: 'Be brief.',
    input: [
      { role: 'developer', content: 'In English.' },
      { role: 'user', content: 'Hi' },
      ...(first.output as ResponseInput),
      ...results,
    ],
    tools: [weather],
    parallel_tool_calls: false,
    reasoning: { effort: 'low' },
  })
  expect(output_text).toBe('It rains.')
  const [call] = results
  expect(asked[1]?.messages).toEqual([
    { role: 'system', content: 'Be brief.\n\nIn English.' },
    { role: 'user', content: 'Hi' },
    {
      role: 'assistant',
      content: 'Let me look.',
      reasoning_content: 'Hm',
      tool_calls: [
        { id: call?.call_id, type: 'function', function: { name: 'weather', arguments: '{"city": "Oslo"}' } },
      ],
    },
    { role: 'tool', tool_call_id: call?.call_id, content: 'rain' },
  ])
  const { name, description, parameters } = weather
  expect(asked[1]?.options).toMatchObject({
    tools: [{ type: 'function', function: { name, description, parameters } }],
    parallelToolCalls: false,
    reasoningEffort: 'low',
  })
})

test('names the call that must come', async () => {
  const { client, asked } = scripted(thoughtfulCall)
  const choice = { type: 'function' as const, name: 'weather' }
  await client.responses.create({ model: 'demo', input: 'Hi', tools: [weather], tool_choice: choice })
  expect(asked[0]?.options.toolChoice).toEqual({ name: 'weather' })
})

test('leaves a call that is cut off incomplete', async () => {
  const { client } = scripted({ parts: weatherCall('Oslo').slice(0, 3), finishReason: 'length' })
  const { status, output } = await client.responses.create({ model: 'demo', input: 'Hi', tools: [weather] })
  expect(status).toBe('incomplete')
  expect(output).toMatchObject([{ type: 'function_call', status: 'incomplete' }])
})

test('ends a stream that fails with response.failed', async () => {
  const { model: working } = scriptedModel([{ parts: ['It', ' rains.'] }])
  const failing = Object.assign(working, { chat: failingChat })
  const answer = await clientOf(failing).responses.stream({ model: 'demo', input: 'Hi' }).finalResponse()
  expect(answer).toMatchObject({ status: 'failed', error: { code: 'server_error', message: 'The server failed.' } })
})

/** Says a word, and fails. */
function failingChat() {
  return {
    async *[Symbol.asyncIterator]() {
      yield { type: 'content', text: 'It' }
      throw new Error('broken')
    },
  } as unknown as ReturnType<Model['chat']>
}

describe('refuses', () => {
  const image = { role: 'user', content: [{ type: 'input_image', image_url: 'data:,' }] }
  test.each<[field: string, object]>([
    ['input', { input: undefined }],
    ['input[0].content[0]', { input: [image] }],
    ['input[0]', { input: [{ type: 'item_reference', id: 'msg_1' }] }],
    ['input[0]', { input: [{ type: 'computer_call' }] }],
    ['input[0].call_id', { input: [{ type: 'function_call_output', output: '' }] }],
    ['previous_response_id', { previous_response_id: 'resp_1' }],
    ['conversation', { conversation: 'conv_1' }],
    ['background', { background: true }],
    ['truncation', { truncation: 'auto' }],
    ['top_logprobs', { top_logprobs: 2 }],
    ['tools[0].type', { tools: [{ type: 'web_search' }] }],
    ['tool_choice', { tool_choice: 'required' }],
    ['tool_choice', { tools: [weather], tool_choice: { type: 'function', name: 'time' } }],
  ])('%s of %j', async (param, members) => {
    const { client } = scripted()
    const answer = client.responses.create({ model: 'demo', input: 'Hi', ...members })
    await expect(answer).rejects.toThrow(expect.objectContaining({ status: 400, param }))
  })

  test('what it would have to keep', async () => {
    const { client } = scripted()
    await expect(client.responses.retrieve('resp_1')).rejects.toThrow(OpenAI.NotFoundError)
  })
})
