import { join } from 'node:path'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { forEachInSlices, sortInSlices } from '../common/event-loop'
import { forEachLine, type LineLimits, readJsonObject } from './text-file'
import { MAX_TOKEN_LENGTH, tokenText } from './vocabulary'

export const VOCAB_FILE = 'vocab.json'
export const MERGES_FILE = 'merges.txt'
/** Ten times the largest in use. */
const MAX_BYTES = 32 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024
const MERGES_LIMITS: LineLimits = { bytes: MAX_BYTES, lines: 1 << 20, length: 2 * MAX_TOKEN_LENGTH + 2 }

/** What the transformers class of a byte-level vocabulary adds to its two files. */
interface TokenizerClass {
  readonly normalizer: Readonly<Record<string, unknown>> | null
  preTokenizer(addPrefixSpace: boolean): Readonly<Record<string, unknown>>
  /** Special tokens that tokenizer_config.json may omit. */
  readonly specials: Readonly<Record<string, string>>
}

const byteLevel = (addPrefixSpace: boolean, useRegex: boolean) => ({
  type: 'ByteLevel',
  add_prefix_space: addPrefixSpace,
  use_regex: useRegex,
})
const QWEN2_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
const CLASSES: Readonly<Record<string, TokenizerClass>> = {
  Qwen2Tokenizer: {
    normalizer: { type: 'NFC' },
    preTokenizer: (addPrefixSpace) => ({
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: QWEN2_PATTERN }, behavior: 'Isolated', invert: false },
        byteLevel(addPrefixSpace, false),
      ],
    }),
    specials: { unk_token: '<|endoftext|>', eos_token: '<|endoftext|>', pad_token: '<|endoftext|>' },
  },
  GPT2Tokenizer: {
    normalizer: null,
    preTokenizer: (addPrefixSpace) => byteLevel(addPrefixSpace, true),
    specials: { unk_token: '<|endoftext|>', bos_token: '<|endoftext|>', eos_token: '<|endoftext|>' },
  },
}
/** Model types with a known class, which takes precedence over tokenizer_config.json, as in transformers. */
const CLASS_OF_MODEL: Readonly<Record<string, string>> = {
  qwen2: 'Qwen2Tokenizer',
  qwen2_moe: 'Qwen2Tokenizer',
  qwen3: 'Qwen2Tokenizer',
  qwen3_moe: 'Qwen2Tokenizer',
}
/** In the order in which transformers assigns missing ids. */
const SPECIAL_NAMES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token']

/**
 * Builds the tokenizer.json equivalent to `vocab.json` and `merges.txt`, and its settings; the rest is in the code of
 * the transformers class.
 * @param settings tokenizer_config.json
 * @returns undefined unless both files exist
 * @throws BillfishError INVALID_CHECKPOINT for a malformed file, or a class whose vocabularies are not byte-level
 */
export async function readVocabAndMerges(
  directory: string,
  settings: Record<string, unknown>,
): Promise<{ file: string; contents: Record<string, unknown>; config: Record<string, unknown> } | undefined> {
  const file = join(directory, VOCAB_FILE)
  const mergesFile = join(directory, MERGES_FILE)
  const merges = await readMerges(mergesFile)
  if (merges === undefined) return undefined
  const vocab = (await readJsonObject(file, MAX_BYTES, '')) as unknown as Map<string, unknown> | undefined
  if (vocab === undefined) return undefined

  const json = async (name: string) => readJsonObject(join(directory, name), MAX_CONFIG_BYTES)
  const tokenizerClass = await classOf(directory, settings)
  // Older releases have two files instead of added_tokens_decoder.
  const old = !isObject(settings.added_tokens_decoder)
  const config: Record<string, unknown> = {
    ...tokenizerClass.specials,
    ...settings,
    ...(old && (await json('special_tokens_map.json'))),
  }
  const declared = old
    ? declaredByText((await json('added_tokens.json')) ?? {}, join(directory, 'added_tokens.json'))
    : declaredById(settings.added_tokens_decoder as Record<string, unknown>, join(directory, 'tokenizer_config.json'))
  return {
    file,
    config,
    contents: {
      added_tokens: await addedTokens(declared, config, vocab),
      normalizer: tokenizerClass.normalizer,
      pre_tokenizer: tokenizerClass.preTokenizer(config.add_prefix_space === true),
      post_processor: postProcessor(config),
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab, merges },
    },
  }
}

async function classOf(directory: string, settings: Record<string, unknown>): Promise<TokenizerClass> {
  const modelType = (await readJsonObject(join(directory, 'config.json'), MAX_CONFIG_BYTES))?.model_type
  const named = CLASS_OF_MODEL[String(modelType)] ?? settings.tokenizer_class
  const found = typeof named === 'string' ? CLASSES[named.replace(/Fast$/, '')] : undefined
  if (found !== undefined) return found
  throw invalidCheckpoint(
    `${directory} has ${VOCAB_FILE} and ${MERGES_FILE}, but no tokenizer.json, and its tokenizer_class ${shown(named)} ` +
      `is not supported (supported are ${Object.keys(CLASSES).join(' and ')}); create tokenizer.json with ` +
      `transformers, AutoTokenizer.from_pretrained('${directory}').save_pretrained('${directory}')`,
  )
}

interface DeclaredToken extends Record<string, unknown> {
  readonly content: string
  readonly id: number
  readonly special?: unknown
}

/** `{ "151643": { "content": "<|endoftext|>", "special": true, ... }, ... }` */
function declaredById(tokens: Record<string, unknown>, file: string): DeclaredToken[] {
  return Object.entries(tokens).map(([id, token]) => {
    if (!/^\d{1,9}$/.test(id) || !isObject(token) || typeof token.content !== 'string') {
      throw invalidCheckpoint(
        `${file}: added_tokens_decoder has ${shown({ [id]: token })}, which is not an id and a token`,
      )
    }
    return { ...token, content: token.content, id: Number(id) }
  })
}

/** `{ "<|endoftext|>": 151643, ... }` */
function declaredByText(tokens: Record<string, unknown>, file: string): DeclaredToken[] {
  return Object.entries(tokens).map(([content, id]) => {
    if (typeof id !== 'number') throw invalidCheckpoint(`${file} gives ${shown(content)} the id ${shown(id)}`)
    return { content, id }
  })
}

/** All added tokens: declared ones, and special tokens that are only named, which get the next free ids. */
async function addedTokens(
  declared: readonly DeclaredToken[],
  config: Record<string, unknown>,
  vocab: ReadonlyMap<string, unknown>,
): Promise<Record<string, unknown>[]> {
  const extra = config.extra_special_tokens ?? config.additional_special_tokens
  const special = new Set<string>()
  const named = [...SPECIAL_NAMES.map((name) => config[name]), ...(Array.isArray(extra) ? extra : [])]
  await forEachInSlices(named, (token) => {
    const text = tokenText(token)
    if (text !== undefined) special.add(text)
  })
  const added = new Map<string, Record<string, unknown>>()
  let next = vocab.size
  await forEachInSlices(await sortInSlices(declared, (a, b) => a.id - b.id), (token) => {
    next = Math.max(next, token.id + 1)
    const isSpecial = token.special === true || special.has(token.content)
    added.set(token.content, { ...token, id: vocab.get(token.content) ?? token.id, special: isSpecial })
  })
  await forEachInSlices(special, (content) => {
    if (!added.has(content)) added.set(content, { content, id: vocab.get(content) ?? next++, special: true })
  })
  return [...added.values()]
}

/** Post-processor for add_bos_token and add_eos_token, which have no effect if there is a tokenizer.json. */
function postProcessor(config: Record<string, unknown>): Record<string, unknown> | null {
  const around = (add: unknown, token: unknown) => {
    const text = tokenText(token)
    return add === true && text !== undefined ? [{ SpecialToken: { id: text, type_id: 0 } }] : []
  }
  const before = around(config.add_bos_token, config.bos_token)
  const after = around(config.add_eos_token, config.eos_token)
  if (before.length + after.length === 0) return null
  const single = [...before, { Sequence: { id: 'A', type_id: 0 } }, ...after]
  return { type: 'TemplateProcessing', single, pair: [], special_tokens: {} }
}

async function readMerges(file: string): Promise<string[] | undefined> {
  const merges: string[] = []
  const exists = await forEachLine(file, MERGES_LIMITS, (line) => {
    if (line !== '' && !line.startsWith('#version')) merges.push(line)
  })
  return exists ? merges : undefined
}
