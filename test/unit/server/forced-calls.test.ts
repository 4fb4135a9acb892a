// Calls that must come, from a model that knows nothing of tools: the clients are unmodified.
import Anthropic from '@anthropic-ai/sdk'
import { generateText, jsonSchema, tool } from 'ai'
import OpenAI from 'openai'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Model } from '../../../src'
import { createBillfish } from '../../../src/providers/ai-sdk'
import { appOf, loadDemo } from './app'

const messages = [{ role: 'user' as const, content: 'Weather?' }]
const parameters = {
  type: 'object' as const,
  properties: { city: { type: 'string' as const, enum: ['Oslo', 'Rome'] } },
  required: ['city'],
}
const wanted = { city: expect.stringMatching(/^(Oslo|Rome)$/) }

let model: Model
let fetchApp: typeof fetch
beforeAll(async () => {
  model = await loadDemo()
  const app = appOf({ demo: model }, { formats: { toolFormat: 'hermes' } })
  fetchApp = async (url, init) => app.request(String(url), init as RequestInit)
})
afterAll(() => model.dispose())

const weather = { type: 'function' as const, function: { name: 'weather', parameters } }
const request = { model: 'demo', messages, tools: [weather], parallel_tool_calls: false, max_tokens: 200 }
const openai = () => new OpenAI({ apiKey: 'none', baseURL: 'http://billfish.test/v1', fetch: fetchApp })

test('the openai client, whole and streamed', async () => {
  const { choices } = await openai().chat.completions.create({ ...request, tool_choice: 'required' })
  const [call] = choices[0]?.message.tool_calls ?? []
  expect(choices[0]).toMatchObject({ finish_reason: 'tool_calls', message: { content: null } })
  expect(call?.type === 'function' && JSON.parse(call.function.arguments)).toEqual(wanted)

  const named = { type: 'function' as const, function: { name: 'weather' } }
  const stream = openai().chat.completions.stream({ ...request, tool_choice: named })
  const { choices: streamed } = await stream.finalChatCompletion()
  const [other] = streamed[0]?.message.tool_calls ?? []
  expect(streamed[0]?.finish_reason).toBe('stop')
  expect(other?.type === 'function' && JSON.parse(other.function.arguments)).toEqual(wanted)
})

test('a call that max_tokens cuts off ends with length', async () => {
  const { choices } = await openai().chat.completions.create({ ...request, tool_choice: 'required', max_tokens: 6 })
  expect(choices[0]?.finish_reason).toBe('length')
})

test('a form beside tools: calls, or a text of it', async () => {
  const response_format = { type: 'json_schema' as const, json_schema: { name: 'answer', schema: parameters } }
  for (let seed = 0; seed < 6; seed++) {
    const body = { ...request, response_format, seed, temperature: 2 }
    const { choices } = await openai().chat.completions.create(body)
    const { content, tool_calls: [call] = [] } = choices[0]?.message ?? {}
    const json = call?.type === 'function' ? call.function.arguments : content
    expect(JSON.parse(json ?? '')).toEqual(wanted)
  }
})

test("Anthropic's client", async () => {
  const client = new Anthropic({ apiKey: 'none', baseURL: 'http://billfish.test', fetch: fetchApp })
  for (const tool_choice of [{ type: 'any' as const }, { type: 'tool' as const, name: 'weather' }]) {
    const { content, stop_reason } = await client.messages.create({
      model: 'demo',
      messages,
      max_tokens: 200,
      tools: [{ name: 'weather', input_schema: parameters }],
      tool_choice: { ...tool_choice, disable_parallel_tool_use: true },
    })
    expect(stop_reason).toBe('tool_use')
    expect(content).toMatchObject([{ type: 'tool_use', name: 'weather', input: wanted }])
  }
})

test('generateText of the AI SDK', async () => {
  const { toolCalls, finishReason, warnings } = await generateText({
    model: createBillfish(model)(),
    prompt: 'Weather?',
    tools: { weather: tool({ inputSchema: jsonSchema<{ city: string }>(parameters) }) },
    toolChoice: { type: 'tool', toolName: 'weather' },
    providerOptions: { billfish: { toolFormat: 'qwen3_coder', parallelToolCalls: false } },
  })
  expect(toolCalls).toMatchObject([{ toolName: 'weather', input: wanted }])
  expect({ finishReason, warnings }).toEqual({ finishReason: 'tool-calls', warnings: [] })
})

test.each<[string, object]>([
  ['a keyword', { type: 'object', properties: { a: { not: {} } }, required: ['a'] }],
  ['a pattern', { type: 'object', properties: { a: { type: 'string', pattern: '((a{1,99}){1,99}){1,99}' } } }],
  ['no value', { type: 'object', properties: { a: false }, required: ['a'] }],
])('a schema with %s that no grammar can be made of is refused within a second', async (_, own) => {
  const begun = performance.now()
  const tools = [{ type: 'function' as const, function: { name: 'f', parameters: own as Record<string, unknown> } }]
  const answer = openai().chat.completions.create({ ...request, tools, tool_choice: 'required' })
  await expect(answer).rejects.toMatchObject({ status: 400, message: expect.stringMatching(/tools/) })
  expect(performance.now() - begun).toBeLessThan(2000)
})
