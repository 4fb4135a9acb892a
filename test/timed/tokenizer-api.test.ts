import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { pathToFileURL } from 'node:url'
import { inspect } from 'node:util'
import { afterAll, beforeAll, describe, expect, expectTypeOf, test } from 'vitest'
import { type ChatMessage, loadModel, loadTokenizer, type Model, type Tokenizer } from '../../src/index'

const demo = resolve(__dirname, '../../examples/demo-model')
const fixture = (name: string) => JSON.parse(readFileSync(resolve(__dirname, '../fixtures/generation', name), 'utf8'))
const { encoded, random } = fixture('demo-tokenizer.json') as {
  encoded: { text: string; ids: number[]; decoded: string; skipped: string }[]
  random: { ids: number[]; decoded: string; skipped: string }[]
}
const long = 'A text that takes its time, word by word. '.repeat(20_000)
const question: ChatMessage = { role: 'user', content: 'Why pad?' }

let tokenizer: Tokenizer
let model: Model
beforeAll(async () => {
  tokenizer = await loadTokenizer(demo)
  model = await loadModel(demo)
})
afterAll(() => Promise.all([tokenizer.dispose(), model.dispose()]))

describe.each<[string, () => Tokenizer]>([
  ['of a directory', () => tokenizer],
  ['of a model', () => model.tokenizer as Tokenizer],
])('a tokenizer %s', (_, get) => {
  test('encodes, counts and decodes as the reference does', async () => {
    for (const { text, ids } of encoded) {
      expect(await get().encode(text)).toEqual(ids)
      expect(await get().count(text)).toBe(ids.length)
    }
    for (const { ids, decoded, skipped } of [...encoded, ...random]) {
      expect(get().decode(ids)).toBe(decoded)
      expect(get().decode(Int32Array.from(ids), { skipSpecialTokens: true })).toBe(skipped)
    }
    expect(get().decode(2047)).toBe('<|im_end|>')
  })

  test('takes a long text, on a thread of its own', async () => {
    const ids = await get().encode(long)
    expect(get().decode(ids)).toBe(long)
    expect(await get().count(long)).toBe(ids.length)
  })

  test('renders messages as generate() does', async () => {
    const ids = await get().applyChatTemplate([question], { addGenerationPrompt: true })
    const greedy = { temperature: 0, maxNewTokens: 4 }
    const expected = await model.generate([question], greedy).result()
    const result = await model.generate(ids, greedy).result()
    expect(result.usage).toEqual(expected.usage)
    expect(result.tokenIds).toEqual(expected.tokenIds)
  })
})

interface Applied {
  readonly messages: ChatMessage[]
  readonly options: Record<string, unknown>
  readonly text?: string
  readonly ids?: number[]
  readonly error?: string
}
const { cases } = fixture('apply-chat-template.json') as { cases: Applied[] }
test.each(cases.map((applied, i) => [i, applied] as const))(
  'applyChatTemplate() does as transformers does (case %i)',
  async (_, { messages, options, text, ids, error }) => {
    const asText = tokenizer.applyChatTemplate(messages, { ...options, tokenize: false })
    if (error !== undefined) {
      await expect(asText).rejects.toMatchObject({ code: 'INVALID_OPTION' })
      return
    }
    expect(await asText).toBe(text)
    expect(await tokenizer.applyChatTemplate(messages, options)).toEqual(ids)
  },
)

test('of several templates of a checkpoint one is chosen by its name', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-api-'))
  for (const name of ['tokenizer.json', 'tokenizer_config.json']) {
    const json = JSON.parse(readFileSync(join(demo, name), 'utf8'))
    const chat_template = ['default', 'tool_use', 'rag'].map((template) => ({ name: template, template }))
    await writeFile(join(directory, name), JSON.stringify({ ...json, chat_template }))
  }
  await using named = await loadTokenizer(pathToFileURL(directory))
  const apply = (options: object) => named.applyChatTemplate([question], { ...options, tokenize: false })
  expect(await apply({})).toBe('default')
  expect(await apply({ tools: [{}] })).toBe('tool_use')
  expect(await apply({ chatTemplate: 'rag' })).toBe('rag')
  expect(await apply({ chatTemplate: '{{ messages[0].content }}' })).toBe('Why pad?')
  const long = "{% for i in range(500) %}{% for j in range(100) %}{{ 'ab' if j == i }}{% endfor %}{% endfor %}"
  expect(await apply({ chatTemplate: long })).toBe('ab'.repeat(100)) // rendered on the thread
  await expect(apply({ chatTemplate: 'rug' })).rejects.toMatchObject({
    code: 'INVALID_OPTION',
    message: expect.stringMatching(/'?"?rug"?'?.*default, tool_use, rag/),
  })
  await rm(directory, { recursive: true })
})

describe('of arguments', () => {
  const wrong: [string, () => unknown, RegExp][] = [
    [
      'a snake_case name',
      () => tokenizer.encode('a', { add_special_tokens: true } as object),
      /called addSpecialTokens/,
    ],
    ['a misspelt name', () => tokenizer.count('a', { addSpecialToken: true } as object), /addSpecialTokens/],
    ['a flag that is none', () => tokenizer.encode('a', { addSpecialTokens: 1 } as object), /addSpecialTokens is 1/],
    ['options that are none', () => tokenizer.encode('a', null as unknown as object), /options/],
    ['a text that is none', () => tokenizer.encode(7 as unknown as string), /The text is 7/],
    ['an array of texts', () => tokenizer.encode(['a'] as unknown as string), /The text is/],
    ['half a signal', () => tokenizer.encode('a', { signal: {} as AbortSignal }), /signal/],
    ['ids that are text', () => tokenizer.decode('1' as unknown as number[]), /The token ids are/],
    ['an id that is no number', () => tokenizer.decode([1, 2n as unknown as number]), /Token id 1/],
    ['a negative id', () => tokenizer.decode([-1]), /Token id 0 is -1/],
    ['a snake_case decode', () => tokenizer.decode([1], { skip_special_tokens: true } as object), /skipSpecialTokens/],
    ['messages that are none', () => tokenizer.applyChatTemplate('hi' as unknown as []), /messages is/],
    ['a message without a role', () => tokenizer.applyChatTemplate([{} as ChatMessage]), /messages\[0\]/],
    [
      'transformers names',
      () => tokenizer.applyChatTemplate([question], { add_generation_prompt: true } as object),
      /addGenerationPrompt/,
    ],
    [
      'kwargs that are a list',
      () => tokenizer.applyChatTemplate([question], { chatTemplateKwargs: [] as never }),
      /chatTemplateKwargs/,
    ],
    [
      'a template that cannot be parsed',
      () => tokenizer.applyChatTemplate([question], { chatTemplate: '{% if %}' }),
      /malformed/,
    ],
    [
      'an endless template',
      () =>
        tokenizer.applyChatTemplate([question], {
          chatTemplate: '{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}',
        }),
      /takes/,
    ],
    ['a directory that is a number', () => loadTokenizer(7 as unknown as string), /directory is 7/],
    [
      'an option of transformers',
      () => loadTokenizer(demo, { trust_remote_code: true } as object),
      /trust_remote_code/,
    ],
  ]
  test.each(wrong)('%s is refused by name', async (_, call, message) => {
    const error = { name: 'BillfishError', code: 'INVALID_OPTION', message: expect.stringMatching(message) }
    await expect((async () => call())()).rejects.toMatchObject(error)
  })

  test('a directory without a tokenizer is INVALID_CHECKPOINT', async () => {
    await expect(loadTokenizer(tmpdir())).rejects.toMatchObject({ code: 'INVALID_CHECKPOINT' })
  })
})

test('values that throw when they are read are refused', async () => {
  const refused = { code: 'INVALID_OPTION', message: expect.stringContaining('could not be read: mine') }
  const fault = () => {
    throw new Error('mine')
  }
  const throwing = new Proxy([1], { get: fault })
  expect(() => tokenizer.decode(throwing)).toThrowError(expect.objectContaining(refused))
  const message = Object.defineProperty({ content: 'x' }, 'role', { get: fault, enumerable: true }) as ChatMessage
  await expect(tokenizer.applyChatTemplate([message])).rejects.toMatchObject(refused)
})

test('a template may repeat its input, but has little room for text of its own', async () => {
  const long = { role: 'user', content: 'x'.repeat(50_000) }
  const render = (chatTemplate: string) => tokenizer.applyChatTemplate([long], { chatTemplate, tokenize: false })
  expect(await render('{{ messages[0].content * 16 }}')).toHaveLength(800_000)
  const refused = { code: 'INVALID_OPTION', message: expect.stringMatching(/to 3000000 characters; the limit is 1062/) }
  await expect(render("{{ 'abc' * 1000000 }}")).rejects.toMatchObject(refused)
  const onThread = '{% for a in range(1000) %}{% for b in range(300) %}abcdefghij{% endfor %}{% endfor %}'
  await expect(render(onThread)).rejects.toMatchObject(refused)
})

describe('an abort', () => {
  test('rejects with its reason, before, during, and never after', async () => {
    const reason = new Error('changed my mind')
    const aborted = AbortSignal.abort(reason)
    await expect(tokenizer.encode('a', { signal: aborted })).rejects.toBe(reason)
    await expect(tokenizer.applyChatTemplate([question], { signal: aborted })).rejects.toBe(reason)
    await expect(loadTokenizer(demo, { signal: aborted })).rejects.toBe(reason)
    const controller = new AbortController()
    const counting = tokenizer.count(long, { signal: controller.signal })
    setTimeout(() => controller.abort(reason), 10)
    await expect(counting).rejects.toBe(reason)
    const late = new AbortController()
    expect(await tokenizer.count('a', { signal: late.signal })).toBe(1)
    late.abort()
  })
})

test('after dispose() nothing is encoded, and what is under way ends', async () => {
  const doomed = await loadTokenizer(demo)
  const encoding = doomed.encode(long)
  await Promise.all([doomed.dispose(), expect(encoding).rejects.toMatchObject({ code: 'DISPOSED' })])
  await expect(doomed.encode('a')).rejects.toMatchObject({ code: 'DISPOSED' })
  await expect(doomed.applyChatTemplate([question], { tokenize: false })).rejects.toMatchObject({ code: 'DISPOSED' })
  await doomed.dispose()
  await model.tokenizer?.dispose()
  expect(await model.tokenizer?.count('a')).toBe(1)
})

test('types follow the options, and a summary is printed', async () => {
  const text = await tokenizer.applyChatTemplate([question], { tokenize: false })
  const ids = await tokenizer.applyChatTemplate([question])
  expectTypeOf(text).toEqualTypeOf<string>()
  expectTypeOf(ids).toEqualTypeOf<number[]>()
  expect(inspect(tokenizer)).toMatch(/^Tokenizer \{\s+vocabularySize: 2048,\s+specialTokens: \{ eos: /)
})

test('keeps the process alive while a text is awaited, and only then', () => {
  const source = `const { loadTokenizer } = require(${JSON.stringify(resolve(__dirname, '../../dist/index.js'))})
    loadTokenizer(${JSON.stringify(demo)}).then(async (tokenizer) => console.log(await tokenizer.count('word '.repeat(20000)) > 0))`
  const { status, stdout, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8', timeout: 30_000 })
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'true\n', stderr: '' })
})
