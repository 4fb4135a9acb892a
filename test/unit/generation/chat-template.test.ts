import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { ChatMessage } from '../../../src/generation/chat-message'
import { loadChatTemplate } from '../../../src/generation/chat-template'
import { normalizeMessages } from '../../../src/generation/normalize-messages'
import { loadTokenizer } from '../../../src/generation/tokenizer'

const DEMO = join(__dirname, '../../../examples/demo-model')
const FIXTURES = join(__dirname, '../../fixtures/generation')
const user = (content: string): ChatMessage => ({ role: 'user', content })

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'billfish-template-'))
})
afterAll(() => rm(directory, { recursive: true }))

/** A template loaded from a directory with these files, beside the demo model's tokenizer. */
async function template(files: { jinja?: string; config?: object }) {
  const place = await mkdtemp(join(directory, 'case-'))
  if (files.jinja !== undefined) await writeFile(join(place, 'chat_template.jinja'), files.jinja)
  if (files.config !== undefined) await writeFile(join(place, 'tokenizer_config.json'), JSON.stringify(files.config))
  return loadChatTemplate(place, await loadTokenizer(DEMO))
}

describe('ChatTemplate', () => {
  it('renders the prompts that the demo model was tested with', async () => {
    const tokenizer = await loadTokenizer(DEMO)
    const chat = await loadChatTemplate(DEMO, tokenizer)
    const fixture = JSON.parse(await readFile(join(FIXTURES, 'demo-tokenizer.json'), 'utf8')) as {
      conversations: { prompt: string; prompt_ids: number[] }[]
    }
    for (const { prompt, prompt_ids } of fixture.conversations) {
      const text = chat?.render([user(prompt)]) ?? ''
      expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(prompt_ids)
    }
  })

  it('omits the generation prompt on request', async () => {
    const chat = await loadChatTemplate(DEMO, await loadTokenizer(DEMO))
    const messages = [{ role: 'system', content: 'S' }, user('Q'), { role: 'assistant', content: 'A' }]
    const expected =
      '<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n'
    expect(chat?.render(messages, { addGenerationPrompt: false })).toBe(expected)
    expect(chat?.render(messages)).toBe(`${expected}<|im_start|>assistant\n`)
  })

  it('falls back to ChatML for qwen.tiktoken', async () => {
    const place = join(FIXTURES, 'qwen1')
    const chat = await loadChatTemplate(place, await loadTokenizer(place))
    expect(chat?.render([user('你好')])).toBe(
      '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' +
        '<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n',
    )
    expect(chat?.render([{ role: 'system', content: 'Be brief.' }, user('a'), user('b')])).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n' +
        '<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n',
    )
  })

  it('prefers chat_template.jinja to tokenizer_config.json, and finds nothing if neither has a template', async () => {
    expect((await template({ jinja: 'file', config: { chat_template: 'config' } }))?.render([user('x')])).toBe('file')
    expect((await template({ config: { chat_template: 'config' } }))?.render([user('x')])).toBe('config')
    expect(await template({ config: {} })).toBeUndefined()
    expect(await template({})).toBeUndefined()
  })

  it('picks the tool template from a list if there are tools', async () => {
    const chat = await template({
      config: {
        chat_template: [
          { name: 'default', template: 'plain' },
          { name: 'tool_use', template: '{{ tools[0].name }}' },
        ],
      },
    })
    expect(chat?.render([user('x')])).toBe('plain')
    expect(chat?.render([user('x')], { tools: [{ name: 'clock' }] })).toBe('clock')
  })

  it('passes special tokens, extra variables, tools as JSON and the date to the template', async () => {
    const chat = await template({
      jinja:
        "{{ eos_token }}{{ bos_token }}|{{ enable_thinking }}|{{ tools | tojson }}|{{ strftime_now('%Y') | length }}",
    })
    const options = { variables: { enable_thinking: false }, tools: [{ a: 1 }] }
    expect(chat?.render([user('x')], options)).toBe('<|im_end|>|False|[{"a": 1}]|4')
  })

  it('reports what the template itself refuses, and what is malformed', async () => {
    const refusing = await template({ jinja: "{{ raise_exception('roles must alternate') }}" })
    expect(() => refusing?.render([user('x')])).toThrowError(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringContaining('roles must alternate') }),
    )
    const malformed = await template({ jinja: '{% for %}' })
    expect(() => malformed?.render([user('x')])).toThrowError(
      expect.objectContaining({
        code: 'INVALID_CHECKPOINT',
        message: expect.stringMatching(/chat_template\.jinja: the chat template is malformed/),
      }),
    )
    for (const jinja of [`{{ 1|${'x'.repeat(1e5)} }}`, `{{ raise_exception('${'x'.repeat(1e5)}') }}`]) {
      const endless = await template({ jinja })
      expect(() => endless?.render([user('x')])).toThrowError(
        expect.objectContaining({ message: expect.not.stringMatching(/x{3000}/) }),
      )
    }
    await expect(template({ config: { chat_template: 3 } })).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT' })
    const unnamed = await template({ config: { chat_template: [{ name: 'rag', template: '' }] } })
    expect(() => unnamed?.render([user('x')])).toThrowError(/templates named rag, but none named default/)
  })
})

describe('normalizeMessages', () => {
  it('joins parts, passes other members on, and allows tool calls without content', () => {
    const parts = [
      { type: 'text', text: 'a' },
      { type: 'text', text: 'b' },
    ] as const
    const calls = [{ function: { name: 'f', arguments: {} } }]
    expect(
      normalizeMessages([
        { role: 'user', content: parts, name: 'n' },
        { role: 'assistant', content: null, tool_calls: calls },
      ]),
    ).toEqual([
      { role: 'user', content: 'ab', name: 'n' },
      { role: 'assistant', content: '', tool_calls: calls },
    ])
  })

  it.each([
    [{ content: 'x' }, /messages\[0\] must have a role/],
    [{ role: '', content: 'x' }, /messages\[0\] must have a role/],
    [{ role: 'user' }, /messages\[0\] must have a content, because it has no tool_calls/],
    [{ role: 'user', content: 3 }, /messages\[0\] must have a content that is a string or parts .*"content":3/],
    [{ role: 'user', content: [{ type: 'image_url' }] }, /messages\[0\] must have a content that is/],
    ['hello', /messages\[0\] must be an object/],
  ])('refuses %j', (message, expected) => {
    expect(() => normalizeMessages([message as ChatMessage])).toThrowError(
      expect.objectContaining({ code: 'INVALID_OPTION', message: expect.stringMatching(expected) }),
    )
  })
})
