import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { forEachInSlices, SLICE_SIZE, yieldToEventLoop } from '../common/event-loop'
import { decodeTokens } from './detokenizer'
import type { TextLimit } from './long-text'
import { type TokenSpelling, tokenSpelling } from './token-bytes'
import type { Encode, SpecialTokenTexts, Tokenizer } from './types'

/** The validated part of a tokenizer.json. */
export interface TokenizerJson extends Record<string, unknown> {
  readonly added_tokens: readonly AddedToken[]
  readonly model: Record<string, unknown> & { readonly vocab: ReadonlyMap<string, number> | readonly unknown[] }
}

export interface AddedToken extends Record<string, unknown> {
  readonly id: number
  readonly content: string
}

/** Far above any vocabulary; higher ids would only cause enormous tables. */
const MAX_TOKEN_ID = (1 << 22) - 1
const MAX_TOKENS = 1 << 19
/** The longest tokens in use are runs of a few hundred spaces. */
export const MAX_TOKEN_LENGTH = 4096
const MAX_ADDED_TOKENS = 1 << 17
/** Total of all added tokens: the library keeps about a hundred bytes per character. */
const MAX_ADDED_CHARACTERS = 1 << 20

/**
 * Validates what the tables are built from.
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function checkVocabulary(json: Record<string, unknown>, path: string): Promise<TokenizerJson> {
  const invalid = (what: string) => invalidCheckpoint(`${path}: ${what}`)
  json.added_tokens ??= []
  const added = json.added_tokens
  if (!Array.isArray(added)) throw invalid('added_tokens must be an array')
  if (added.length > MAX_ADDED_TOKENS) {
    throw invalid(`${added.length} added tokens; at most ${MAX_ADDED_TOKENS} can be read`)
  }
  let characters = 0
  await forEachInSlices(added, (token) => {
    if (!isObject(token) || typeof token.content !== 'string' || !isTokenId(token.id)) {
      throw invalid(`added token ${shown(token)} must have a string content and an id`)
    }
    if (token.content.length > MAX_TOKEN_LENGTH) throw invalid(tooLong('added_tokens', token.content))
    characters += token.content.length
  })
  if (characters > MAX_ADDED_CHARACTERS) {
    throw invalid(`added tokens of ${characters} characters in total; at most ${MAX_ADDED_CHARACTERS} can be read`)
  }
  const { model } = json
  if (!isObject(model)) throw invalid('model must be an object')
  const { vocab } = model
  if (!(vocab instanceof Map) && !Array.isArray(vocab)) throw invalid('model.vocab must be an object or an array')
  if (model.type === undefined && model.merges !== undefined) model.type = 'BPE' // missing in the oldest files
  if (model.type === 'BPE') {
    if (!Array.isArray(model.merges)) throw invalid('model.merges must be an array')
    if (!(vocab instanceof Map)) throw invalid('model.vocab must be an object, where there are merges')
  } else if (model.merges !== undefined) {
    throw invalid(`model.type is ${shown(model.type)}, but it has merges`)
  }
  const size = vocab instanceof Map ? vocab.size : vocab.length
  if (size > MAX_TOKENS) throw invalid(`model.vocab has ${size} tokens; at most ${MAX_TOKENS} can be read`)
  let checked = 0
  for (const [token, id] of entriesOf(vocab)) {
    if (typeof token !== 'string') throw invalid(`model.vocab[${shown(id)}] must be a token and its score`)
    if (!isTokenId(id)) throw invalid(`model.vocab gives ${shown(token)} the id ${shown(id)}`)
    if (token.length > MAX_TOKEN_LENGTH) throw invalid(tooLong('model.vocab', token))
    if (++checked % SLICE_SIZE === 0) await yieldToEventLoop()
  }
  return json as TokenizerJson
}

function tooLong(where: string, token: string): string {
  return `${where} has a token of ${token.length} characters; at most ${MAX_TOKEN_LENGTH} can be read`
}

/** Token and id pairs of an object, or of a list of [token, score], whose indices are the ids. */
function entriesOf(vocab: ReadonlyMap<unknown, unknown> | readonly unknown[]): Iterable<readonly [unknown, unknown]> {
  return vocab instanceof Map ? vocab : scored(vocab as readonly unknown[])
}

function* scored(vocab: readonly unknown[]): Generator<readonly [unknown, number]> {
  for (const [id, entry] of vocab.entries()) {
    yield [Array.isArray(entry) && typeof entry[1] === 'number' ? entry[0] : undefined, id]
  }
}

function isTokenId(id: unknown): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_TOKEN_ID
}

/** The tokens of a tokenizer.json by text and by id. */
export class Vocabulary implements Tokenizer {
  readonly file: string
  readonly fileBytes: number
  readonly encode: Encode | undefined
  readonly growth: number
  readonly maxTextBytes: number
  readonly vocabularySize: number
  readonly specialIds: ReadonlySet<number>
  readonly specialTokens: SpecialTokenTexts
  readonly leadingSpacesToStrip: number
  readonly #tables: TokenTables
  readonly #spelling: TokenSpelling
  readonly #addedIds: ReadonlySet<number>

  constructor(
    json: TokenizerJson,
    config: Record<string, unknown>,
    tables: TokenTables,
    { file, fileBytes, growth, maxTextBytes, encode }: TextLimit & Pick<Tokenizer, 'encode'>,
  ) {
    this.file = file
    this.fileBytes = fileBytes
    this.encode = encode
    this.growth = growth
    this.maxTextBytes = maxTextBytes
    this.#tables = tables
    this.#spelling = tokenSpelling(json.decoder, file)
    this.leadingSpacesToStrip = this.#spelling.leadingSpacesToStrip
    this.vocabularySize = tables.tokens.length
    this.specialTokens = specialTokenTexts(config)
    this.#addedIds = tables.addedIds
    this.specialIds = tables.specialIds
  }

  decode(ids: readonly number[], { skipSpecialTokens = false }: { readonly skipSpecialTokens?: boolean } = {}): string {
    return decodeTokens(this, ids, { skipSpecialTokens })
  }

  tokenToId(token: string): number | undefined {
    return this.#tables.ids.get(token)
  }

  idToToken(id: number): string | undefined {
    return this.#tables.tokens[id]
  }

  idToBytes(id: number): Uint8Array | undefined {
    const token = this.#tables.tokens[id]
    return token === undefined ? undefined : this.#spelling.bytesOf(token, this.#addedIds.has(id))
  }
}

export interface TokenTables {
  readonly ids: Map<string, number>
  /** By id; may have gaps. */
  readonly tokens: string[]
  readonly addedIds: ReadonlySet<number>
  readonly specialIds: ReadonlySet<number>
}

/**
 * Builds the tables of a vocabulary; added tokens override the text or id of others.
 * @param config tokenizer_config.json, which may name further special tokens
 */
export async function tokenTables(
  { model, added_tokens }: TokenizerJson,
  config: Record<string, unknown>,
): Promise<TokenTables> {
  const { vocab } = model
  const size = vocab instanceof Map ? vocab.size : (vocab as readonly unknown[]).length
  const ids = vocab instanceof Map ? (vocab as Map<string, number>) : new Map<string, number>()
  const tokens = new Array<string>(size)
  let filled = 0
  for (const [token, id] of entriesOf(vocab) as Iterable<readonly [string, number]>) {
    if (ids !== vocab) ids.set(token, id)
    tokens[id] = token
    if (++filled % SLICE_SIZE === 0) await yieldToEventLoop()
  }
  const addedIds = new Set<number>()
  const specialIds = new Set<number>()
  await forEachInSlices(added_tokens, ({ id, content, special }) => {
    ids.set(content, id)
    tokens[id] = content
    addedIds.add(id)
    if (special) specialIds.add(id)
  })
  const more = config.additional_special_tokens
  await forEachInSlices(Array.isArray(more) ? more.slice(0, MAX_ADDED_TOKENS) : [], (token) => {
    const text = tokenText(token)
    const id = text === undefined ? undefined : ids.get(text)
    if (id !== undefined) specialIds.add(id)
  })
  return { ids, tokens, addedIds, specialIds }
}

/** `"eos_token": "<|im_end|>"`, or the older `"eos_token": {"content": "<|im_end|>", ...}`. */
export function tokenText(value: unknown): string | undefined {
  const text = isObject(value) ? value.content : value
  return typeof text === 'string' ? text : undefined
}

function specialTokenTexts(config: Record<string, unknown>): SpecialTokenTexts {
  const texts: Record<string, string> = {}
  for (const name of ['bos', 'eos', 'pad', 'unk']) {
    const text = tokenText(config[`${name}_token`])
    if (text !== undefined) texts[name] = text
  }
  return texts
}
