/** From scripted answers to HTTP. */
import { describe, expect, test } from 'vitest'
import { type Script, scriptedModel, weatherCall } from '../../support/scripted-chat'
import { appOf } from './app'

const weather = { type: 'function', function: { name: 'weather', parameters: { type: 'object', properties: {} } } }
const messages = [{ role: 'user', content: 'Hello' }]

/** An app whose model follows scripts, one an answer, and keeps what it was asked. */
function appWith(...scripts: Script[]) {
  const { model, asked } = scriptedModel(scripts)
  const app = appOf({ scripted: model })
  const post = async (body: object) =>
    app.request('/v1/chat/completions', { method: 'POST', body: JSON.stringify({ messages, ...body }) })
  return { asked, post }
}

async function whole(script: Script, body: object = {}) {
  const answer = (await (await appWith(script).post(body)).json()) as {
    choices: { message: Record<string, unknown>; finish_reason: string }[]
    usage: object
  }
  return { ...answer.choices[0], usage: answer.usage }
}

async function streamed(script: Script, body: object = {}) {
  const response = await appWith(script).post({ ...body, stream: true })
  const text = await response.text()
  const events = text
    .split('\n\n')
    .flatMap((event) => (event.startsWith('data: {') ? [JSON.parse(event.slice(6))] : []))
  return events.map((event) => event.choices[0] as { delta: Record<string, unknown>; finish_reason: string | null })
}

describe('tool calls', () => {
  const script: Script = { parts: ['Let me', ' look.', '\n', ...weatherCall('Oslo'), '\n', ...weatherCall('Rome')] }

  test('of a whole answer', async () => {
    const { message, finish_reason } = await whole(script, { tools: [weather] })
    expect(message).toEqual({
      role: 'assistant',
      content: 'Let me look.',
      refusal: null,
      tool_calls: ['Oslo', 'Rome'].map((city) => ({
        id: expect.stringMatching(/^call_[0-9a-f]{24}$/),
        type: 'function',
        function: { name: 'weather', arguments: `{"city": "${city}"}` },
      })),
    })
    expect(finish_reason).toBe('tool_calls')
  })

  test('of a stream: id, type and name once, then arguments by index', async () => {
    const choices = await streamed(script, { tools: [weather] })
    expect(choices[0]?.delta).toEqual({ role: 'assistant', content: '' })
    const deltas = choices.flatMap(({ delta }) => (delta.tool_calls as Record<string, unknown>[] | undefined) ?? [])
    const begins = deltas.filter((delta) => delta.id !== undefined)
    expect(begins).toEqual(
      [0, 1].map((index) => ({
        index,
        id: expect.stringMatching(/^call_/),
        type: 'function',
        function: { name: 'weather', arguments: '' },
      })),
    )
    const parts = deltas.filter((delta) => delta.id === undefined)
    expect(new Set(parts.flatMap((part) => Object.keys(part)))).toEqual(new Set(['index', 'function']))
    for (const [index, city] of ['Oslo', 'Rome'].entries()) {
      const own = parts.filter((part) => part.index === index) as { function: { arguments: string } }[]
      expect(own.map((part) => part.function.arguments).join('')).toBe(`{"city": "${city}"}`)
    }
    expect(choices.map(({ finish_reason }) => finish_reason).filter((reason) => reason !== null)).toEqual([
      'tool_calls',
    ])
    expect(choices.at(-1)?.delta).toEqual({})
  })

  test('only one, if parallel calls are not wanted', async () => {
    const { message } = await whole(script, { tools: [weather], parallel_tool_calls: false })
    expect(message?.tool_calls).toHaveLength(1)
  })

  test.each<[string, Script, string, string | null]>([
    ['alone', { parts: weatherCall('Oslo') }, 'tool_calls', null],
    ['that is cut off', { parts: weatherCall('Oslo').slice(0, 3), finishReason: 'length' }, 'length', null],
    [
      'that is complete when the length is reached',
      { parts: weatherCall('Oslo'), finishReason: 'length' },
      'length',
      null,
    ],
    ['that a stop string ends', { parts: weatherCall('Oslo').slice(0, 3), stoppedBy: 'x' }, 'stop', null],
    ['that is none', { parts: ['A <tool_call>', ' tag'] }, 'stop', 'A <tool_call> tag'],
  ])('a call %s has the same finish reason, streamed or not', async (_, own, reason, content) => {
    const { message, finish_reason } = await whole(own, { tools: [weather] })
    expect([message?.content, finish_reason]).toEqual([content, reason])
    expect((await streamed(own, { tools: [weather] })).at(-1)?.finish_reason).toBe(reason)
  })
})

describe('reasoning', () => {
  const script: Script = { parts: ['Hm', '\n</thi', 'nk>\n\n', 'Hi'], turn: '<think>\n', reasoning: 'qwen3' }

  test('is beside the content, and its tokens are counted', async () => {
    const { message, usage } = await whole(script)
    expect(message).toEqual({ role: 'assistant', content: 'Hi', refusal: null, reasoning: 'Hm' })
    expect(usage).toMatchObject({ completion_tokens: 4, completion_tokens_details: { reasoning_tokens: 3 } })
    const deltas = (await streamed(script)).map(({ delta }) => delta)
    expect(deltas).toEqual([{ role: 'assistant', content: '' }, { reasoning: 'Hm' }, { content: 'Hi' }, {}])
  })

  test('is left out on request', async () => {
    expect((await whole(script, { include_reasoning: false })).message).not.toHaveProperty('reasoning')
    const deltas = (await streamed(script, { include_reasoning: false })).map(({ delta }) => delta)
    expect(deltas).toEqual([{ role: 'assistant', content: '' }, { content: 'Hi' }, {}])
  })

  test('that is cut off is all there is', async () => {
    const { message, finish_reason } = await whole({ ...script, parts: ['Hm'], finishReason: 'length' })
    expect([message?.content, message?.reasoning, finish_reason]).toEqual([null, 'Hm', 'length'])
  })
})

test('a call that the client has named ends with stop, any other with tool_calls', async () => {
  const function_ = { type: 'function', function: { name: weather.function.name } }
  for (const [tool_choice, reason] of [
    ['required', 'tool_calls'],
    [function_, 'stop'],
  ] as const) {
    const body = { tools: [weather], tool_choice }
    expect((await whole({ parts: weatherCall('Oslo') }, body)).finish_reason).toBe(reason)
    expect((await streamed({ parts: weatherCall('Oslo') }, body)).at(-1)?.finish_reason).toBe(reason)
  }
})

test('options are those of the request', async () => {
  const { asked, post } = appWith({ parts: ['Hi'] }, { parts: ['Hi'] })
  await post({
    tools: [weather],
    tool_choice: 'none',
    parallel_tool_calls: false,
    reasoning_effort: 'low',
    chat_template_kwargs: { enable_thinking: true },
    messages: [{ role: 'developer', content: 'Be brief.' }, ...messages],
  })
  expect(asked[0]).toMatchObject({
    messages: [{ role: 'system' }, { role: 'user' }],
    options: {
      tools: [weather],
      toolChoice: 'none',
      parallelToolCalls: false,
      reasoningEffort: 'low',
      chatTemplate: { variables: { enable_thinking: true } },
    },
  })
  await post({ tool_choice: 'none', parallel_tool_calls: true, tools: null })
  expect(asked[1]?.options).not.toHaveProperty('tools')
})

test.each<[string, object, RegExp, string]>([
  ['no tools in the list', { tools: [] }, /^tools: /, 'tools'],
  ['a tool of another kind', { tools: [{ type: 'web_search' }] }, /^tools\[0\]\.type/, 'tools[0].type'],
  ['a tool without a name', { tools: [{ type: 'function', function: {} }] }, /name/, 'tools[0].function.name'],
  ['a choice without tools', { tool_choice: 'auto' }, /without tools/, 'tool_choice'],
  ['a call without tools', { tool_choice: 'required' }, /without tools/, 'tool_choice'],
  [
    'a choice of another tool',
    { tools: [weather], tool_choice: { type: 'function', function: { name: 'x' } } },
    /none of the tools/,
    'tool_choice',
  ],
  ['an effort that no one knows', { reasoning_effort: 'huge' }, /^reasoning_effort/, 'reasoning_effort'],
])('refuses %s', async (_, body, message, param) => {
  const response = await appWith().post(body)
  expect(response.status).toBe(400)
  const { error } = (await response.json()) as { error: { message: string; param: string } }
  expect(error.message).toMatch(message)
  expect(error.param).toBe(param)
})
