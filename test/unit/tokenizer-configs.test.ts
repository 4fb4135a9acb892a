import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { loadTokenizer } from '../../src/generation/tokenizer'

const demo = resolve(__dirname, '../../examples/demo-model')
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
const { cases } = readJson(resolve(__dirname, '../fixtures/generation/tokenizer-configs.json')) as { cases: Case[] }

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
    ['no class', { 'tokenizer_config.json': {} }, /known are Qwen2Tokenizer and GPT2Tokenizer/],
    ['a merge of three', { 'merges.txt': 'a b\na b c\n' }, /merge 1 is "a b c"/],
    ['a vocabulary that is a list', { 'vocab.json': ['a'] }, /vocab\.json must hold a JSON object/],
    ['an id that is none', { 'vocab.json': { a: 'b' } }, /vocab\.json: model\.vocab gives "a" the id "b"/],
    [
      'a declared token without an id',
      { 'tokenizer_config.json': { ...demoConfig, added_tokens_decoder: { x: {} } } },
      /no id and token/,
    ],
  ])('are refused with %s', async (_, changed, message) => {
    const place = await write({ ...files, ...changed })
    const error = { code: 'INVALID_CHECKPOINT', message: expect.stringMatching(message) }
    await expect(loadTokenizer(place)).rejects.toMatchObject(error)
  })
})
