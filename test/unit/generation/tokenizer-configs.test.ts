import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadTokenizer } from '../../../src/generation/tokenizer'

const demo = resolve(__dirname, '../../../examples/demo-model')
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))
const tokenizerJson = readJson(join(demo, 'tokenizer.json'))
const { chat_template, ...demoConfig } = readJson(join(demo, 'tokenizer_config.json'))
const merges = `#version: 0.2\n${tokenizerJson.model.merges.map((pair: unknown) => (Array.isArray(pair) ? pair.join(' ') : pair)).join('\n')}\n`

/** What transformers makes of a directory: token ids by text. */
interface Case {
  readonly name: string
  /** tokenizer_config.json as what differs from the demo's. */
  readonly files: Readonly<Record<string, object>> & {
    readonly 'tokenizer_config.json'?: { readonly set: object; readonly drop: readonly string[] }
  }
  /** Of a tokenizer.json; without one the directory has vocab.json and merges.txt. */
  readonly post_processor?: unknown
  readonly encoded: readonly (readonly [string, readonly number[]])[]
}
const { cases } = readJson(resolve(__dirname, '../../fixtures/generation/tokenizer-configs.json')) as { cases: Case[] }

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'billfish-tokenizer-configs-'))
})
afterAll(() => rm(directory, { recursive: true }))

async function write(files: Readonly<Record<string, unknown>>): Promise<string> {
  const place = await mkdtemp(join(directory, 'case-'))
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(place, name), typeof content === 'string' ? content : JSON.stringify(content))
  }
  return place
}

function filesOf({ files, post_processor }: Case): Record<string, unknown> {
  const difference = files['tokenizer_config.json']
  const config = difference && {
    ...Object.fromEntries(Object.entries(demoConfig).filter(([name]) => !difference.drop.includes(name))),
    ...difference.set,
  }
  return {
    ...files,
    'tokenizer_config.json': config ?? {},
    ...(post_processor === undefined
      ? { 'vocab.json': tokenizerJson.model.vocab, 'merges.txt': merges }
      : { 'tokenizer.json': { ...tokenizerJson, post_processor } }),
  }
}

describe('encodes as transformers does', () => {
  it.each(cases)('$name', async (example) => {
    const tokenizer = await loadTokenizer(await write(filesOf(example)))
    for (const [text, ids] of example.encoded) expect(tokenizer.encode(text), text).toEqual(ids)
  })
})

describe('vocab.json and merges.txt', () => {
  const files = { 'vocab.json': tokenizerJson.model.vocab, 'merges.txt': merges, 'tokenizer_config.json': demoConfig }

  it('decode, and know their special tokens', async () => {
    const tokenizer = await loadTokenizer(await write(files))
    const ids = tokenizer.encode('Hi<|im_end|>')
    expect(tokenizer.decode(ids)).toBe('Hi<|im_end|>')
    expect(tokenizer.decode(ids, { skipSpecialTokens: true })).toBe('Hi')
    expect(tokenizer.specialTokens).toEqual({ eos: '<|im_end|>', pad: '<|endoftext|>' })
    expect([...tokenizer.specialIds].sort()).toEqual([2045, 2046, 2047])
  })

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      'a class that is not known',
      { 'tokenizer_config.json': { ...demoConfig, tokenizer_class: 'LlamaTokenizer' } },
      /"LlamaTokenizer"/,
    ],
    ['no class', { 'tokenizer_config.json': {} }, /supported are Qwen2Tokenizer and GPT2Tokenizer/],
    ['a merge of three', { 'merges.txt': 'a b\na b c\n' }, /merge 1 is "a b c"/],
    ['a vocabulary that is a list', { 'vocab.json': ['a'] }, /vocab\.json must hold a JSON object/],
    ['an id that is none', { 'vocab.json': { a: 'b' } }, /vocab\.json: model\.vocab gives "a" the id "b"/],
    [
      'a declared token without an id',
      { 'tokenizer_config.json': { ...demoConfig, added_tokens_decoder: { x: {} } } },
      /not an id and a token/,
    ],
  ])('are refused with %s', async (_, changed, message) => {
    const place = await write({ ...files, ...changed })
    const error = { code: 'INVALID_CHECKPOINT', message: expect.stringMatching(message) }
    await expect(loadTokenizer(place)).rejects.toMatchObject(error)
  })
})

/** With what tokenizers 0.23 makes of them. */
describe('flags of added tokens', () => {
  const added = [
    { id: 2048, content: 'foo', single_word: true },
    { id: 2049, content: '<L>', lstrip: true },
    { id: 2050, content: '<R>', rstrip: true },
    { id: 2051, content: '<B>', lstrip: true, rstrip: true, special: true },
    { id: 2052, content: '\u00c9!', single_word: true, lstrip: true, normalized: true },
  ]
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: false }
  const added_tokens = [...tokenizerJson.added_tokens, ...added.map((token) => ({ ...flags, ...token }))]
  const texts: [text: string, ids: number[]][] = [
    ['foo', [2048]],
    ['foo bar', [2048, 1314]],
    ['foobar', [69, 78, 775, 281]],
    ['a foo_ foo.', [64, 756, 78, 62, 220, 2048, 13]],
    ['\u00e9foo foo\ud83d\ude00', [1673, 69, 78, 78, 220, 2048, 172, 253, 246, 222]],
    ['\ud835\udc9cfoo', [172, 251, 240, 250, 69, 78, 78]],
    ['1foo foo1', [16, 69, 78, 78, 756, 78, 16]],
    ['foofoo foo', [69, 78, 1209, 78, 78, 220, 2048]],
    ['foo<L>foo', [2048, 2049, 2048]],
    ['a <L> b', [64, 2049, 279]],
    ['a \n<L>\n b', [64, 2049, 198, 279]],
    ['a <R> \t b', [64, 220, 2050, 65]],
    ['<R> <L>', [2050, 2049]],
    [' <B> <B> ', [2051, 2051]],
    ['x\u0085<L>\ufeff<R>\u0085y\u00a0<B>\u3000z', [87, 2049, 171, 119, 123, 2050, 88, 2051, 89]],
    ['a E\u0301! \u00c9!b', [64, 2052, 220, 127, 231, 0, 65]],
    ['<B>foo<B>', [2051, 2048, 2051]],
    ['\u200dfoo', [158, 222, 235, 69, 78, 78]],
  ]
  it.each(texts)('%j', async (text, ids) => {
    const place = await write({ 'tokenizer.json': { ...tokenizerJson, added_tokens }, 'tokenizer_config.json': {} })
    expect((await loadTokenizer(place)).encode(text)).toEqual(ids)
  })
})
