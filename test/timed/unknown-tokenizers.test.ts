import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { isLinearTimePattern } from '../../src/generation/linear-time-patterns'
import { findTokenizer } from '../../src/generation/tokenizer'
import { loadModel, loadTokenizer } from '../../src/index'

const demo = resolve(__dirname, '../../examples/demo-model')
const readJson = (path: string) => JSON.parse(readFileSync(path, 'utf8'))
const json = readJson(join(demo, 'tokenizer.json'))
const pattern: string = json.pre_tokenizer.pretokenizers[0].pattern.Regex
const { encoded } = readJson(resolve(__dirname, '../fixtures/generation/demo-tokenizer.json')) as {
  encoded: { text: string; ids: number[] }[]
}

let directory: string
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'billfish-unknown-'))
})
afterAll(() => rm(directory, { recursive: true }))

/** The demo's tokenizer with another pattern, and files of the demo beside it. */
async function withPattern(Regex: string, files: readonly string[] = ['tokenizer_config.json']): Promise<string> {
  const place = await mkdtemp(join(directory, 'case-'))
  const [split, ...others] = json.pre_tokenizer.pretokenizers
  const pretokenizers = [{ ...split, pattern: { Regex } }, ...others]
  await writeFile(
    join(place, 'tokenizer.json'),
    JSON.stringify({ ...json, pre_tokenizer: { type: 'Sequence', pretokenizers } }),
  )
  for (const name of files) await writeFile(join(place, name), readFileSync(join(demo, name)))
  return place
}

/** Endless for a run of a, and a word for anything else. */
const endless = '(a+)+$|[^a]+'
const trap = `${'a'.repeat(60)}!`

describe('patterns that may run on the event loop', () => {
  const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
  const spaces = '\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+'
  test.each([
    ['Qwen2', pattern],
    ['Llama 3', `${contractions}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|${spaces}`],
    ['GPT-2', "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"],
    [
      'cl100k',
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
    ],
    [
      'tekken',
      `[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|${spaces}`,
    ],
    ['digits of DeepSeek', '\\p{N}{1,3}'],
    [
      'words of DeepSeek',
      `[!"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_\`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|${spaces}`,
    ],
  ])('are those of %s', (_, known) => {
    expect(isLinearTimePattern(known)).toBe(true)
  })

  test.each([endless, `${pattern}|(a+)+$`, `(?:${pattern})+`, '\\s*[\\r\\n]+', `${pattern}|`, '', '[a|b]+', '(', '\\'])(
    'are not %s',
    (unknown) => {
      expect(isLinearTimePattern(unknown)).toBe(false)
    },
  )

  test('decide where a tokenizer encodes', async () => {
    expect((await findTokenizer(demo))?.encode).toBeDefined()
    expect((await findTokenizer(await withPattern(endless)))?.encode).toBeUndefined()
  })
})

test('an unknown tokenizer gives the ids that it gives on the event loop', async () => {
  await using tokenizer = await loadTokenizer(await withPattern(`(?:${pattern})`))
  for (const { text, ids } of encoded) expect(await tokenizer.encode(text)).toEqual(ids)
})

test('a model with an unknown tokenizer generates the same', async () => {
  const files = ['tokenizer_config.json', 'config.json', 'model.safetensors', 'generation_config.json']
  await using unknown = await loadModel(await withPattern(`(?:${pattern})`, files))
  await using known = await loadModel(demo)
  const messages = [{ role: 'user', content: 'Why pad?' }]
  const greedy = { temperature: 0, maxNewTokens: 8 }
  const expected = await known.generate(messages, greedy).result()
  expect((await unknown.generate(messages, greedy).result()).tokenIds).toEqual(expected.tokenIds)
})

describe('a text that would take forever', () => {
  const overdue = {
    code: 'INVALID_CHECKPOINT',
    message: expect.stringMatching(/tokenizer\.json: tokenizing a text of 61 characters took more than 1\d{3} ms/),
  }

  test('fails with the file and the limit, and others do not, before or after it', async () => {
    await using tokenizer = await loadTokenizer(await withPattern(endless))
    const words = tokenizer.encode('hello '.repeat(900))
    const trapped = tokenizer.encode(trap)
    const after = tokenizer.encode('hello '.repeat(900))
    await expect(trapped).rejects.toMatchObject(overdue)
    expect(await words).toHaveLength(1802)
    expect(await after).toEqual(await words)
  })

  test('does not block the next when it is aborted', async () => {
    await using tokenizer = await loadTokenizer(await withPattern(endless))
    const started = performance.now()
    const reason = new Error('too slow')
    const controller = new AbortController()
    setTimeout(() => controller.abort(reason), 100)
    const long = tokenizer.encode(`${'a'.repeat(5000)}!`, { signal: controller.signal })
    await expect(long).rejects.toBe(reason)
    expect(await tokenizer.count('hello '.repeat(900))).toBe(1802)
    expect(performance.now() - started).toBeLessThan(1500)
  })

  test('ends when the tokenizer is disposed of', async () => {
    const tokenizer = await loadTokenizer(await withPattern(endless))
    const trapped = tokenizer.encode(trap)
    setTimeout(() => tokenizer.dispose(), 50)
    await expect(trapped).rejects.toMatchObject({ code: 'DISPOSED' })
  })

  test('does not keep a process from exiting', async () => {
    const place = await withPattern(endless)
    const source = `const { loadTokenizer } = require(${JSON.stringify(resolve(__dirname, '../../dist/index.js'))})
      loadTokenizer(${JSON.stringify(place)}).then((tokenizer) => {
        tokenizer.encode(${JSON.stringify(trap)}).catch(() => {})
        setTimeout(() => process.exit(7), 100)
      })`
    const { status, stderr } = spawnSync(process.execPath, ['-e', source], { encoding: 'utf8', timeout: 20_000 })
    expect({ status, stderr }).toEqual({ status: 7, stderr: '' })
  })
})
