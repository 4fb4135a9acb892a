import { readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type ChatEvent, loadModel, type Model, type Tool } from '../../../src'
import { templateMessages } from '../../../src/generation/chat-messages'
import { ChatTemplate } from '../../../src/generation/chat-template'
import { loadTokenizer } from '../../../src/generation/tokenizer'
import { scratchDirectory } from '../../support/directories'

const demo = join(__dirname, '../../../examples/demo-model')
const messages = [{ role: 'user', content: 'What is the capital of France?' }]
const tools: Tool[] = [{ type: 'function', function: { name: 'f' } }]

/** Says what it was given, so that answers can be told by their prompts. */
const TEMPLATE = `{%- if tools %}<|im_start|>tools{{ tools | tojson }}<|im_end|>{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}<|im_start|>assistant
{% if enable_thinking is defined and not enable_thinking %}<think>

</think>

{% elif enable_thinking is defined or reasoning_effort is defined %}<think>
{% endif %}{# <tool_call> #}`

const directory = scratchDirectory()
let model: Model
beforeAll(async () => {
  // The demo model, whose special token of the id 2045 ends reasoning instead of texts.
  for (const name of readdirSync(demo)) {
    if (!name.startsWith('tokenizer') && !name.startsWith('special'))
      symlinkSync(join(demo, name), join(directory, name))
    else {
      const text = readFileSync(join(demo, name), 'utf8')
      writeFileSync(join(directory, name), text.replaceAll('<|endoftext|>', '</think>'))
    }
  }
  writeFileSync(join(directory, 'chat_template.jinja'), TEMPLATE)
  model = await loadModel(directory, { deviceMap: 'cpu' })
})
afterAll(() => model.dispose())

const events = async (chat: AsyncIterable<ChatEvent>) => {
  const all: ChatEvent[] = []
  for await (const event of chat) all.push(event)
  return all
}
const greedy = { temperature: 0, maxNewTokens: 8 }

test('an answer is what generate() gives for the same prompt', async () => {
  const { text, usage } = await model.generate(messages, greedy).result()
  const chat = model.chat(messages, greedy)
  const all = await events(chat)
  expect(all.map((event) => (event.type === 'content' ? event.text : '?')).join('')).toBe(text)
  const result = await chat.result()
  expect(result).toMatchObject({ content: text, text, toolCalls: [], finishReason: 'length' })
  expect(result.usage).toEqual({ ...usage, reasoningTokens: 0 })
  expect(JSON.parse(JSON.stringify(result))).toEqual(result)
})

describe('reasoning', () => {
  test('is all of an answer whose prompt opened it, and nothing of one whose prompt closed it', async () => {
    const open = await model.chat(messages, { ...greedy, reasoningEffort: 'low' }).result()
    expect(open).toMatchObject({ content: null, reasoning: expect.stringMatching(/\S/) })
    expect(open.usage.reasoningTokens).toBe(open.usage.completionTokens)
    const closed = await model.chat(messages, { ...greedy, reasoningEffort: 'none' }).result()
    expect(closed.reasoning).toBeUndefined()
    expect(closed.content).toMatch(/\S/)
    const variables = { enable_thinking: true }
    const kept = await model
      .chat(messages, { ...greedy, reasoningEffort: 'none', chatTemplate: { variables } })
      .result()
    expect(kept.reasoning).toMatch(/\S/)
  })

  test('ends with a tag that is a special token', async () => {
    const options = { ...greedy, maxNewTokens: 3, ignoreEos: true, logitBias: { 2045: 100 } }
    const { content, reasoning, usage, text } = await model
      .chat(messages, { ...options, reasoningEffort: 'high' })
      .result()
    expect({ content, reasoning, text }).toEqual({
      content: '</think></think>',
      reasoning: undefined,
      text: '</think></think></think>',
    })
    expect(usage.reasoningTokens).toBe(1)
    const plain = await model.chat(messages, { ...options, reasoningFormat: 'none' }).result()
    expect(plain.content).toBe('')
  })

  test('has no form; what follows it has', async () => {
    const structuredOutput = { regex: '[0-9]{3}' }
    const options = { maxNewTokens: 20, temperature: 0, ignoreEos: true, logitBias: { 2045: 100 }, structuredOutput }
    const result = await model.chat(messages, { ...options, reasoningEffort: 'high' }).result()
    expect(result).toMatchObject({ content: expect.stringMatching(/^[0-9]{3}$/), finishReason: 'stop' })
    expect(result.usage.reasoningTokens).toBe(1)
    const reasoned = await model.chat(messages, { ...options, logitBias: {}, reasoningEffort: 'high' }).result()
    expect(reasoned).toMatchObject({ content: null, reasoning: expect.stringMatching(/[a-z]/) })
  })

  test('is expected by deepseek_r1 where the prompt does not tell', async () => {
    const { reasoning } = await model.chat(messages, { ...greedy, reasoningFormat: 'deepseek_r1' }).result()
    expect(reasoning).toMatch(/\S/)
  })
})

describe('tools', () => {
  test('are in the prompt, unless none is to be called', async () => {
    const tokens = async (options: object) =>
      (await model.chat(messages, { ...greedy, ...options }).result()).usage.promptTokens
    const without = await tokens({})
    expect(await tokens({ tools })).toBeGreaterThan(without)
    expect(await tokens({ tools, toolChoice: 'none' })).toBe(without)
  })

  test.each<[string, object, RegExp]>([
    ['no function', { tools: [] }, /^tools is \[\], but must be an array of \{ type: 'function'/],
    ['another type', { tools: [{ type: 'x' }] }, /^tools/],
    ['names that are given twice', { tools: [...tools, ...tools] }, /two functions named f/],
    [
      'a choice without tools',
      { toolChoice: 'auto' },
      /^toolChoice is "auto", but must be left out without the option tools/,
    ],
    [
      'a choice that is unknown',
      { tools, toolChoice: 'any' },
      /^toolChoice is "any", but must be 'auto', 'none', 'required' or/,
    ],
    [
      'a choice of another tool',
      { tools, toolChoice: { name: 'g' } },
      /^toolChoice is .*, but must be the name of one/,
    ],
    ['a call without tools', { toolChoice: 'required' }, /^toolChoice is "required", but must be left out/],
    ['two forms', { schema: {}, structuredOutput: { json: true } }, /^schema and structuredOutput are given together/],
    ['tools of the template', { chatTemplate: { tools } }, /chatTemplate\.tools/],
    ['a format', { toolFormat: 'json' }, /^toolFormat is "json", but must be 'hermes' or 'qwen3_coder'/],
  ])('refuses %s', (_, options, message) => {
    expect(() => model.chat(messages, options)).toThrow(message)
  })

  test('need a format', async () => {
    const plain = await loadModel(demo, { deviceMap: 'cpu' })
    expect(() => plain.chat(messages, { tools })).toThrow(/^tools is given, but the chat template shows no way/)
    const { content } = await plain.chat(messages, { ...greedy, tools, toolFormat: 'hermes' }).result()
    expect(content).toMatch(/\S/)
    await plain.dispose()
  })
})

describe('calls by grammar', () => {
  const weather: Tool = {
    type: 'function',
    function: {
      name: 'weather',
      parameters: {
        type: 'object',
        properties: { city: { enum: ['Oslo', 'Rome'] }, days: { type: 'integer', minimum: 1, maximum: 9 } },
        required: ['city', 'days'],
      },
    },
  }
  const wanted = {
    city: expect.stringMatching(/^(Oslo|Rome)$/),
    days: expect.toSatisfy((days) => days > 0 && days < 10),
  }
  const random = (seed: number) => ({ temperature: 5, topK: 0, topP: 1, minP: 0, maxNewTokens: 400, seed })

  test.each(['hermes', 'qwen3_coder'] as const)('name a tool and satisfy its schema in %s', async (toolFormat) => {
    const options = { tools: [weather, ...tools], toolFormat, parallelToolCalls: false }
    for (let seed = 0; seed < 5; seed++) {
      const any = await model.chat(messages, { ...options, ...random(seed), toolChoice: 'required' }).result()
      expect(any).toMatchObject({
        content: null,
        finishReason: 'tool_calls',
        toolCalls: [{ name: expect.stringMatching(/^(weather|f)$/) }],
      })
      const named = await model
        .chat(messages, { ...options, ...random(seed), toolChoice: { name: 'weather' } })
        .result()
      expect(named.toolCalls.map(({ name }) => name)).toEqual(['weather'])
      expect(JSON.parse(named.toolCalls[0]?.arguments ?? '')).toEqual(wanted)
    }
  })

  test('come behind the reasoning', async () => {
    const options = { ...random(1), tools: [weather], toolChoice: 'required', parallelToolCalls: false } as const
    const bias = { ignoreEos: true, logitBias: { 2045: 100 }, reasoningEffort: 'high' } as const
    const { toolCalls, usage } = await model.chat(messages, { ...options, ...bias }).result()
    expect(JSON.parse(toolCalls[0]?.arguments ?? '')).toEqual(wanted)
    expect(usage.reasoningTokens).toBe(1)
  })

  test('that the length cuts off end with it', async () => {
    const options = { tools: [weather], toolChoice: 'required', maxNewTokens: 6 } as const
    expect((await model.chat(messages, options).result()).finishReason).toBe('length')
  })

  test('are one of two things beside a schema', async () => {
    const schema = { type: 'object', properties: { tag: { const: '<tool_call>{"name": "f"' } }, required: ['tag'] }
    const seen = new Set<string>()
    for (let seed = 0; seed < 30; seed++) {
      const options = { tools: [weather], schema, parallelToolCalls: false, ...random(seed) }
      const { content, toolCalls } = await model.chat(messages, options).result()
      seen.add(content === null ? 'calls' : 'text')
      if (content === null) expect(JSON.parse(toolCalls[0]?.arguments ?? '')).toEqual(wanted)
      else expect(JSON.parse(content)).toEqual({ tag: schema.properties.tag.const })
    }
    expect(seen).toEqual(new Set(['calls', 'text']))
  })
})

test('log-probabilities come in front of what they are of', async () => {
  const all = await events(model.chat(messages, { ...greedy, logprobs: 1 }))
  expect(all[0]?.type).toBe('logprobs')
  expect(all.flatMap((event) => (event.type === 'logprobs' ? event.logprobs : []))).toHaveLength(8)
})

test('leaving the loop cancels it, and there is one reader', async () => {
  const chat = model.chat(messages, { temperature: 1, ignoreEos: true })
  for await (const _ of chat) break
  await expect(chat.result()).rejects.toThrow(/left the loop early/)
  await expect(events(chat)).rejects.toMatchObject({ code: 'INVALID_STATE' })
  await expect.poll(() => model.activity().running).toBe(0)
})

test('cancel() and a signal end it', async () => {
  const chat = model.chat(messages, { ignoreEos: true })
  chat.cancel(new Error('enough'))
  await expect(chat.result()).rejects.toThrow('enough')
  const signal = AbortSignal.abort(new Error('late'))
  await expect(model.chat(messages, { signal }).result()).rejects.toThrow('late')
})

describe('templateMessages', () => {
  const call = (args: unknown) => ({
    role: 'assistant',
    tool_calls: [{ id: 'a', function: { name: 'f', arguments: args } }],
  })
  const argumentsOf = (args: unknown, format: 'hermes' | 'qwen3_coder') => {
    const [message] = templateMessages([call(args)], format) as unknown as {
      tool_calls: { function: { arguments: unknown } }[]
    }[]
    return message?.tool_calls[0]?.function.arguments
  }

  test.each<[unknown, unknown, unknown]>([
    ['{"a": 1}', { a: 1 }, { a: 1 }],
    [{ a: 1 }, { a: 1 }, { a: 1 }],
    ['', {}, {}],
    ['null', {}, {}],
    [undefined, {}, {}],
    ['{', '{', { arguments: '{' }],
    ['[1]', '[1]', { arguments: '[1]' }],
  ])('reads arguments %j', (given, hermes, coder) => {
    expect(argumentsOf(given, 'hermes')).toEqual(hermes)
    expect(argumentsOf(given, 'qwen3_coder')).toEqual(coder)
  })

  test.each(['{"city": "Oslo"}', '{', '', 'null', '[1]', '"a"', '{"n": null}'])(
    'lets templates that go through the arguments render %j',
    async (args) => {
      const source =
        '{%- for message in messages %}{% for call in message.tool_calls or [] %}<function={{ call.function.name }}>' +
        '{% for key, value in call.function.arguments | items %}{{ key }}={{ value | string }}{% endfor %}{% endfor %}' +
        "{{ 'end' if message.content.startswith('x') else message.content }}{% endfor %}"
      const template = ChatTemplate.ofCaller(source, await loadTokenizer(demo))
      expect(template.render(templateMessages([call(args)], 'qwen3_coder'))).toMatch(/^<function=f>/)
    },
  )

  test('gives answers and results a content, and reasoning the name that templates know', () => {
    const given = [
      { role: 'user', content: 'a' },
      { role: 'assistant', content: null, reasoning: 'b', tool_calls: [] },
      { role: 'tool', tool_call_id: 'a' },
      { role: 'assistant', content: 'c', reasoning_content: 'd' },
    ]
    expect(templateMessages(given, 'hermes')).toEqual([
      { role: 'user', content: 'a' },
      { role: 'assistant', content: '', reasoning_content: 'b' },
      { role: 'tool', content: '', tool_call_id: 'a' },
      { role: 'assistant', content: 'c', reasoning_content: 'd' },
    ])
  })
})
