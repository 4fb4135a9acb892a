/** Anthropic's Messages API: its client, unmodified, and what requests become. */
import Anthropic from '@anthropic-ai/sdk'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { type Script, scriptedModel, weatherCall } from '../../support/scripted-chat'
import { appOf, loadDemo } from './app'

const question = [{ role: 'user' as const, content: 'Hello' }]
const weather = {
  name: 'weather',
  description: 'The weather of a city',
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' } } },
}
const call = weatherCall('Oslo')

function clientOf(model: Model, options: Parameters<typeof appOf>[1] = {}) {
  const app = appOf({ demo: model }, options)
  return new Anthropic({
    apiKey: 'secret',
    maxRetries: 0,
    baseURL: 'http://billfish.test',
    fetch: async (url, init) => app.request(String(url), init as RequestInit),
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
  const request = { model: 'demo', max_tokens: 40, temperature: 0, system: 'Be brief.', messages: question }

  test('answers, whole and streamed, to a key and without', async () => {
    const messages = [{ role: 'system', content: 'Be brief.' }, ...question]
    const { content, usage } = await model.chat(messages, { maxNewTokens: 40, temperature: 0 }).result()
    for (const client of [clientOf(model), clientOf(model, { keys: ['secret'] })]) {
      const whole = await client.messages.create(request)
      const streamed = await client.messages.stream(request).finalMessage()
      for (const answer of [whole, streamed]) {
        expect(answer).toMatchObject({
          type: 'message',
          role: 'assistant',
          model: 'demo',
          content: [{ type: 'text', text: content }],
          stop_reason: 'end_turn',
          stop_sequence: null,
        })
        const { input_tokens, cache_read_input_tokens, output_tokens } = answer.usage
        expect(input_tokens + (cache_read_input_tokens ?? 0)).toBe(usage.promptTokens)
        expect(output_tokens).toBe(usage.completionTokens)
      }
    }
    const { input_tokens } = await clientOf(model).messages.countTokens(request)
    expect(input_tokens).toBe(usage.promptTokens)
  })

  test('says why it stopped', async () => {
    const client = clientOf(model)
    const { content } = await client.messages.create(request)
    const [, word = ''] = (content[0] as { text: string }).text.split(' ')
    const stopped = await client.messages.create({ ...request, stop_sequences: [word] })
    expect([stopped.stop_reason, stopped.stop_sequence]).toEqual(['stop_sequence', word])
    expect((await client.messages.create({ ...request, max_tokens: 1 })).stop_reason).toBe('max_tokens')
  })

  test('gives answers of a schema', async () => {
    const schema = { type: 'object', properties: { a: { enum: [1, 2] } }, required: ['a'], additionalProperties: false }
    const answer = await clientOf(model).messages.create({
      ...request,
      max_tokens: 200,
      output_config: { format: { type: 'json_schema', schema } },
    })
    expect([1, 2]).toContain(JSON.parse((answer.content[0] as { text: string }).text).a)
  })

  test('a stream that is left ends its generation', async () => {
    const stream = clientOf(model).messages.stream({ ...request, temperature: 1, max_tokens: 900 })
    await new Promise<void>((resolve) => stream.once('streamEvent', () => resolve()))
    stream.abort()
    await expect(stream.finalMessage()).rejects.toThrow(Anthropic.AnthropicError)
    await expect.poll(() => model.activity().running).toBe(0)
  })
})

describe('tools and thoughts', () => {
  const request = { model: 'demo', max_tokens: 100, messages: question, tools: [weather] }
  const script: Script = { parts: ['<think>', 'Hm', '</think>', '\n\nLet me look.\n', ...call], reasoning: 'qwen3' }

  test('are blocks of their own, whole and streamed', async () => {
    const whole = await scripted(script).client.messages.create(request)
    const streamed = await scripted(script).client.messages.stream(request).finalMessage()
    for (const { content, stop_reason } of [whole, streamed]) {
      expect(stop_reason).toBe('tool_use')
      expect(content).toMatchObject([
        { type: 'thinking', thinking: 'Hm' },
        { type: 'text', text: 'Let me look.' },
        { type: 'tool_use', name: 'weather', input: { city: 'Oslo' } },
      ])
    }
  })

  test('go back with their results, as templates know them', async () => {
    const { client, asked } = scripted(script, { parts: ['It rains.'] })
    const first = await client.messages.create(request)
    const use = first.content.find(({ type }) => type === 'tool_use') as { id: string }
    const second = await client.messages.create({
      ...request,
      system: [
        { type: 'text', text: 'x-anthropic-billing-header: cch=1' },
        { type: 'text', text: 'Be brief.' },
      ],
      tool_choice: { type: 'auto', disable_parallel_tool_use: true },
      thinking: { type: 'disabled' },
      messages: [
        ...question,
        { role: 'assistant', content: first.content },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: use.id, content: [{ type: 'text', text: 'rain' }] },
            { type: 'text', text: 'So?' },
          ],
        },
      ],
    })
    expect(second.content).toMatchObject([{ type: 'text', text: 'It rains.' }])
    expect(asked[1]?.messages).toEqual([
      { role: 'system', content: 'Be brief.' },
      { role: 'user', content: 'Hello' },
      {
        role: 'assistant',
        content: 'Let me look.',
        reasoning_content: 'Hm',
        tool_calls: [{ id: use.id, type: 'function', function: { name: 'weather', arguments: { city: 'Oslo' } } }],
      },
      { role: 'tool', tool_call_id: use.id, content: 'rain' },
      { role: 'user', content: 'So?' },
    ])
    expect(asked[1]?.options).toMatchObject({
      parallelToolCalls: false,
      toolChoice: 'auto',
      chatTemplate: { variables: { enable_thinking: false } },
      tools: [{ type: 'function', function: { name: 'weather', parameters: weather.input_schema } }],
    })
  })

  test('a call that is cut off has no input', async () => {
    const cut: Script = { parts: call.slice(0, 3), finishReason: 'length' }
    const { content, stop_reason } = await scripted(cut).client.messages.create(request)
    expect(stop_reason).toBe('max_tokens')
    for (const block of content) if (block.type === 'tool_use') expect(block.input).toEqual({})
  })
})

describe('errors have their classes', () => {
  const request = { model: 'demo', max_tokens: 4, messages: question }
  const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } }

  test.each<[string, object, number, RegExp]>([
    ['another model', { model: 'claude' }, 404, /no model 'claude'/],
    ['no number of tokens', { max_tokens: undefined }, 400, /^max_tokens: /],
    ['an image', { messages: [{ role: 'user', content: [image] }] }, 400, /^messages\[0\]\.content\[0\]: .* image/],
    ['a prefilled answer', { messages: [...question, { role: 'assistant', content: 'A' }] }, 400, /prefilled/],
    ['a tool of the server', { tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, 400, /web_search/],
    [
      'a call of none of the tools',
      { tools: [weather], tool_choice: { type: 'tool', name: 'x' } },
      400,
      /names x, which/,
    ],
    ['a forced call without tools', { tool_choice: { type: 'any' } }, 400, /no tools/],
    [
      'a result of no kind',
      { messages: [{ role: 'user', content: [{ type: 'tool_result', content: 1 }] }] },
      400,
      /text/,
    ],
  ])('%s', async (_, body, status, message) => {
    const error = await clientOf(model)
      .messages.create({ ...request, ...body } as typeof request)
      .catch((error: unknown) => error as InstanceType<typeof Anthropic.APIError>)
    expect(error).toMatchObject({
      status,
      error: { type: 'error', error: { message: expect.stringMatching(message) } },
    })
  })

  test('a wrong key', async () => {
    const client = clientOf(model, { keys: ['other'] })
    await expect(client.messages.create(request)).rejects.toThrow(Anthropic.AuthenticationError)
  })

  test('of a stream that has begun are an event', async () => {
    const stop = new AbortController()
    const client = clientOf(model, { stopped: stop.signal })
    const stream = client.messages.stream({ ...request, max_tokens: 900, temperature: 1 })
    await new Promise<void>((resolve) => stream.once('streamEvent', () => resolve()))
    stop.abort(new Error('stopped'))
    await expect(stream.finalMessage()).rejects.toThrow(/api_error/)
  })
})
