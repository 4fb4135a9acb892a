/**
 * Loads damaged tokenizers and encodes texts with them. Whatever the damage: token ids come out, or a BillfishError; nothing
 * else is thrown, nothing takes long.
 */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { mutateBytes, mutateJson } from './mutations.mjs'
import { Random } from './random.mjs'

const MAX_MILLISECONDS = 2000
const REFUSALS = ['INVALID_CHECKPOINT', 'INVALID_OPTION']
const FILES = ['tokenizer.json', 'tokenizer_config.json']

/** Steps of a pipeline that make a text long, or a match slow. */
const HOSTILE = [
  { type: 'Replace', pattern: { String: 'a' }, content: 'a'.repeat(50) },
  { type: 'Replace', pattern: { Regex: '(a+)+$' }, content: '' },
  { type: 'Replace', pattern: { Regex: '' }, content: 'xy' },
  { type: 'Prepend', prepend: 'x'.repeat(10_000) },
  { type: 'Sequence', normalizers: Array(30).fill({ type: 'Replace', pattern: { String: 'a' }, content: 'aa' }) },
  { type: 'Precompiled', precompiled_charsmap: 'AAAA' },
  { type: 'NFKC' },
  { type: 'StripAccents' },
]
const HOSTILE_SPLITS = ['(a+)+$', '(?:a|a)*b', '(.*a){25}', '\\p{L}*(\\p{L}+)*$', '(?<=a+)b', '[', '', '(?=x'].map(
  (Regex) => ({
    type: 'Split',
    pattern: { Regex },
    behavior: 'Isolated',
    invert: false,
  }),
)
const TEXTS = [
  '',
  'a',
  `${'a'.repeat(40)}!`,
  'Hello world, 123 \u00e9\u{1f600}',
  '<|im_start|>user\n',
  'ab '.repeat(500),
]

/** Files of a tokenizer whose vocabulary is cut to its first tokens, so that most damage is not to the vocabulary. */
export function smallTokenizer(directory) {
  const json = JSON.parse(readFileSync(join(directory, 'tokenizer.json'), 'utf8'))
  const kept = Object.entries(json.model.vocab).slice(0, 300)
  const names = new Set(kept.map(([name]) => name))
  json.model.vocab = Object.fromEntries(kept)
  json.model.merges = json.model.merges.filter((merge) => {
    const [left, right] = typeof merge === 'string' ? merge.split(' ') : merge
    return names.has(left) && names.has(right) && names.has(left + right)
  })
  return new Map([
    ['tokenizer.json', JSON.stringify(json)],
    ['tokenizer_config.json', readFileSync(join(directory, 'tokenizer_config.json'), 'utf8')],
  ])
}

function damaged(files, random) {
  const changed = new Map(files)
  const done = []
  if (random.chance(0.3)) {
    const json = JSON.parse(changed.get('tokenizer.json'))
    if (random.chance(0.5)) json.normalizer = random.pick(HOSTILE)
    else json.pre_tokenizer = random.pick(HOSTILE_SPLITS)
    if (random.chance(0.1)) json.decoder = random.pick(HOSTILE)
    changed.set('tokenizer.json', JSON.stringify(json))
    done.push('a hostile step')
    if (random.chance(0.5)) return { changed, done }
  }
  const file = random.pick(FILES)
  const text = changed.get(file)
  if (random.chance(0.2)) {
    const mutation = mutateBytes(Buffer.from(text), text.length, random)
    changed.set(file, mutation.bytes)
    done.push(`${file}: ${mutation.done.join(', ')}`)
  } else {
    const mutation = mutateJson(text, random)
    changed.set(file, mutation.text)
    done.push(`${file}: ${mutation.done.join(', ')}`)
  }
  return { changed, done }
}

/**
 * @param options.files - as smallTokenizer() gives them
 * @param options.loadTokenizer - as the package exports it
 * @param options.seed - with a case's number, makes the case
 * @param options.more - told the number of cases done; cases go on while it says true
 * @returns how many cases ran, how many of them encoded a text, and how long the slowest took
 * @throws an Error that tells how to run the failing case again
 */
export async function fuzzTokenizers({ files, loadTokenizer, seed, first = 0, more }) {
  let cases = 0
  let encoded = 0
  let slowest = 0
  const directory = mkdtempSync(join(tmpdir(), 'billfish-fuzz-'))
  while (more(cases)) {
    const number = first + cases
    const random = new Random(Math.imul(seed, 0x9e3779b1) ^ number)
    const { changed, done } = damaged(files, random)
    for (const [name, contents] of changed) writeFileSync(join(directory, name), contents)
    const start = performance.now()
    try {
      if (await runCase(directory, loadTokenizer, random)) encoded++
      const milliseconds = performance.now() - start
      slowest = Math.max(slowest, milliseconds)
      if (milliseconds > MAX_MILLISECONDS) throw new Error(`it took ${Math.round(milliseconds)} ms`)
    } catch (error) {
      const what = `Case ${number} with seed ${seed} (${done.join('; ')}) failed, its files are in ${directory}`
      throw new Error(`${what}: ${String(error?.stack ?? error).slice(0, 2000)}`, { cause: error })
    }
    cases++
  }
  rmSync(directory, { recursive: true })
  return { cases, encoded, slowest }
}

async function runCase(directory, loadTokenizer, random) {
  let tokenizer
  try {
    tokenizer = await loadTokenizer(directory)
    const ids = await tokenizer.encode(random.pick(TEXTS))
    tokenizer.decode(ids)
    tokenizer.decode([0, 1, 2, 299, 1_000_000])
    return true
  } catch (error) {
    const isRefusal = error?.name === 'BillfishError' && REFUSALS.includes(error.code)
    if (!isRefusal || error.message.length > 4000) throw error
    return false
  } finally {
    await tokenizer?.dispose?.()
  }
}
