import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { decodeTokens } from './detokenizer'
import { type TokenizersLibrary, tokenizersLibrary } from './libraries'
import { loadQwenTiktoken, QWEN_TIKTOKEN_FILE } from './qwen-tiktoken'
import { nextTurn, SLICE } from './slices'
import { readJsonObject } from './text-file'
import { type TokenSpelling, tokenSpelling } from './token-bytes'
import type { SpecialTokenTexts, Tokenizer } from './types'

type LibraryTokenizer = InstanceType<TokenizersLibrary['Tokenizer']>

const TOKENIZER_FILE = 'tokenizer.json'
const CONFIG_FILE = 'tokenizer_config.json'
const MAX_TOKENIZER_BYTES = 128 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024
/** No vocabulary in use comes near this; a higher id would only make for enormous tables. */
const MAX_TOKEN_ID = (1 << 22) - 1

/**
 * Loads a checkpoint's tokenizer: `tokenizer.json` (with `tokenizer_config.json`), or the `qwen.tiktoken` of Qwen v1.
 * A large vocabulary takes a few tenths of a second, but in slices, between which other events have their turn.
 * @throws BillfishError INVALID_CHECKPOINT if the directory has neither file, or if one of them is malformed
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const tokenizer = await findTokenizer(directory)
  if (tokenizer === undefined) throw invalidCheckpoint(await noTokenizerMessage(directory))
  return tokenizer
}

/** As {@link loadTokenizer}, but undefined if the directory has no tokenizer. */
export async function findTokenizer(directory: string): Promise<Tokenizer | undefined> {
  const path = join(directory, TOKENIZER_FILE)
  const json = await readJsonObject(path, MAX_TOKENIZER_BYTES, 'model.vocab')
  if (json === undefined) return loadQwenTiktoken(directory)
  const config = (await readJsonObject(join(directory, CONFIG_FILE), MAX_CONFIG_BYTES)) ?? {}
  return loadTokenizerJson(json, config, path)
}

/** Says what is missing in a directory without a tokenizer, and what can be done about it. */
export async function noTokenizerMessage(directory: string): Promise<string> {
  const message = `${directory} has no tokenizer: neither ${TOKENIZER_FILE} nor ${QWEN_TIKTOKEN_FILE} is there`
  for (const name of ['tokenizer.model', 'vocab.json']) {
    try {
      await access(join(directory, name))
    } catch {
      continue
    }
    return (
      `${message}. There is a ${name}: make a ${TOKENIZER_FILE} from it with transformers, ` +
      `AutoTokenizer.from_pretrained('${directory}').save_pretrained('${directory}')`
    )
  }
  return `${message}. Copy the tokenizer files of the released checkpoint into the directory`
}

async function loadTokenizerJson(
  json: Record<string, unknown>,
  config: Record<string, unknown>,
  path: string,
): Promise<Tokenizer> {
  await checkShape(json, path)
  const spelling = tokenSpelling(json.decoder, path)
  const library = tokenizersLibrary()
  let tokenizer: LibraryTokenizer
  try {
    tokenizer = await construct(library, json, config)
  } catch (error) {
    throw invalidCheckpoint(`${path} cannot be read: ${(error as Error).message}`, error)
  }
  return new JsonTokenizer(tokenizer, spelling, config)
}

/** Checks what the library takes on trust and what would make for endless tables. */
async function checkShape(json: Record<string, unknown>, path: string): Promise<void> {
  const invalid = (what: string) => invalidCheckpoint(`${path}: ${what}`)
  json.added_tokens ??= []
  if (!Array.isArray(json.added_tokens)) throw invalid('added_tokens must be an array')
  for (const token of json.added_tokens) {
    if (!isObject(token) || typeof token.content !== 'string' || !isTokenId(token.id)) {
      throw invalid(`added token ${JSON.stringify(token)?.slice(0, 200)} must have a string content and an id`)
    }
  }
  const model = json.model
  if (!isObject(model)) throw invalid('model must be an object')
  const { vocab } = model
  if (!(vocab instanceof Map) && !Array.isArray(vocab)) throw invalid('model.vocab must be an object or an array')
  if (model.type === 'BPE' || model.merges !== undefined) {
    if (!Array.isArray(model.merges)) throw invalid('model.merges must be an array')
    if (!(vocab instanceof Map)) throw invalid('model.vocab must be an object, where there are merges')
    let checked = 0
    for (const [token, id] of vocab) {
      if (!isTokenId(id)) throw invalid(`model.vocab gives ${JSON.stringify(token)} the id ${JSON.stringify(id)}`)
      if (++checked % SLICE === 0) await nextTurn()
    }
  }
}

function isTokenId(id: unknown): id is number {
  return Number.isInteger(id) && (id as number) >= 0 && (id as number) <= MAX_TOKEN_ID
}

/** Makes the library's tokenizer; the tables of a BPE model, which take most of the time, are filled in by slices. */
async function construct(
  library: TokenizersLibrary,
  json: Record<string, unknown>,
  config: Record<string, unknown>,
): Promise<LibraryTokenizer> {
  const parts = { normalizer: null, pre_tokenizer: null, post_processor: null, decoder: null, ...json }
  const model = json.model as Record<string, unknown>
  if (!Array.isArray(model.merges)) {
    const vocab = model.vocab instanceof Map ? Object.fromEntries(model.vocab) : model.vocab
    return new library.Tokenizer({ ...parts, model: { ...model, vocab } }, config)
  }
  const tokenizer = new library.Tokenizer({ ...parts, model: { ...model, vocab: {}, merges: [] } }, config)
  const ranks: unknown = tokenizer.model !== null && 'bpe_ranks' in tokenizer.model && tokenizer.model.bpe_ranks
  if (!(ranks instanceof Map)) throw new Error(`its model type is ${JSON.stringify(model.type)}, but it has merges`)
  await fillVocabulary(tokenizer, model.vocab as ReadonlyMap<string, number>, model.unk_token)
  await fillRanks(ranks, model.merges)
  return tokenizer
}

/** Puts the tokens beside the added ones, which are there already; where both name a token or an id, those count. */
async function fillVocabulary(
  tokenizer: LibraryTokenizer,
  vocab: ReadonlyMap<string, number>,
  unknownToken: unknown,
): Promise<void> {
  const { model } = tokenizer
  const tokens = new Array<string>(vocab.size)
  let filled = 0
  for (const [token, id] of vocab) {
    if (!model.tokens_to_ids.has(token)) model.tokens_to_ids.set(token, id)
    tokens[id] = token
    if (++filled % SLICE === 0) await nextTurn()
  }
  for (const [id, { content }] of tokenizer.get_added_tokens_decoder()) tokens[id] = content
  model.vocab = tokens
  model.unk_token_id = vocab.get(unknownToken as string)
}

async function fillRanks(ranks: Map<string, number>, merges: readonly unknown[]): Promise<void> {
  for (const [rank, merge] of merges.entries()) {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw new Error(`merge ${rank} is ${JSON.stringify(merge)}, which is not a pair of tokens`)
    }
    ranks.set(JSON.stringify(pair), rank)
    if (rank % SLICE === SLICE - 1) await nextTurn()
  }
}

class JsonTokenizer implements Tokenizer {
  readonly vocabularySize: number
  readonly specialIds: ReadonlySet<number>
  readonly specialTokens: SpecialTokenTexts
  readonly leadingSpacesToStrip: number
  readonly #library: LibraryTokenizer
  readonly #spelling: TokenSpelling
  readonly #addedIds: ReadonlySet<number>

  constructor(library: LibraryTokenizer, spelling: TokenSpelling, config: Record<string, unknown>) {
    this.#library = library
    this.#spelling = spelling
    this.leadingSpacesToStrip = spelling.leadingSpacesToStrip
    this.vocabularySize = library.model?.vocab.length ?? 0
    this.specialTokens = specialTokenTexts(config)
    const added = [...library.get_added_tokens_decoder()]
    this.#addedIds = new Set(added.map(([id]) => id))
    const special = new Set(added.filter(([, token]) => token.special).map(([id]) => id))
    for (const token of additionalSpecialTokens(config)) {
      const id = library.token_to_id(token)
      if (id !== undefined) special.add(id)
    }
    this.specialIds = special
  }

  encode(text: string, { addSpecialTokens = true }: { readonly addSpecialTokens?: boolean } = {}): number[] {
    return this.#library.encode(text, { add_special_tokens: addSpecialTokens }).ids
  }

  decode(ids: readonly number[], { skipSpecialTokens = false }: { readonly skipSpecialTokens?: boolean } = {}): string {
    return decodeTokens(this, ids, { skipSpecialTokens })
  }

  tokenToId(token: string): number | undefined {
    return this.#library.token_to_id(token)
  }

  idToToken(id: number): string | undefined {
    return this.#library.id_to_token(id)
  }

  idToBytes(id: number): Uint8Array | undefined {
    const token = this.#library.id_to_token(id)
    return token === undefined ? undefined : this.#spelling.bytesOf(token, this.#addedIds.has(id))
  }
}

/** `"eos_token": "<|im_end|>"`, or the older `"eos_token": {"content": "<|im_end|>", ...}`. */
function tokenText(value: unknown): string | undefined {
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

function additionalSpecialTokens(config: Record<string, unknown>): string[] {
  const tokens = config.additional_special_tokens
  if (!Array.isArray(tokens)) return []
  return tokens.map(tokenText).filter((text) => text !== undefined)
}
