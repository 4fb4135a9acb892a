import { invalidCheckpoint, shown, truncate } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../common/errors'
import { SLICE_SIZE, yieldToEventLoop } from '../common/event-loop'
import { hasFlags, splitByFlags } from './added-token-flags'
import { patchNormalizers } from './normalizers'
import { patchPreTokenizers } from './pre-tokenizers'
import type { Encode } from './types'
import { type AddedToken, MAX_TOKEN_LENGTH, type TokenizerJson, type TokenTables, tokenText } from './vocabulary'

/**
 * A package whose types are written for ES modules only, loaded on first use by `require`, for which it has a build of its
 * own. No `import()`: in CommonJS code that runs in a `vm` context (Jest, vitest's vmThreads) it needs a flag.
 */
type TokenizersLibrary = typeof import('@huggingface/tokenizers', { with: { 'resolution-mode': 'import' }})

function tokenizersLibrary(): TokenizersLibrary {
  return require('@huggingface/tokenizers')
}

type LibraryTokenizer = InstanceType<ReturnType<typeof tokenizersLibrary>['Tokenizer']>
type BpeModel = { bpe_ranks: Map<string, number>; bpe(word: string): string[] }

/** Maximum merges of a vocabulary; the largest in use has half a million. */
const MAX_MERGES = 1 << 20
/**
 * Maximum length of a word for the model, in characters (byte-level vocabularies: bytes). Merging takes about 400 bytes
 * of memory per character. If nothing splits a text, as in SentencePiece vocabularies, the word is the text.
 */
const MAX_WORD_LENGTH = 1 << 20

/**
 * Encoder based on the tokenizers library. Its tables, which take most of the loading time, are filled in slices.
 * @param tables tables of the same file, shared with the library, which does not modify them
 * @throws BillfishError INVALID_CHECKPOINT for what the library does not support
 */
export async function libraryEncoder(
  json: TokenizerJson,
  config: Record<string, unknown>,
  tables: TokenTables,
  path: string,
): Promise<Encode> {
  let tokenizer: LibraryTokenizer
  try {
    tokenizer = await construct(json, config, tables)
  } catch (error) {
    throw invalidCheckpoint(`${path} cannot be read: ${truncate((error as Error).message)}`, error)
  }
  // The library handles unknown words for the other models, but not for this one.
  const unknownId = json.model.type === 'WordLevel' ? tables.ids.get(json.model.unk_token as string) : undefined
  return (text, { addSpecialTokens = true } = {}) => {
    const { ids, tokens } = encode(tokenizer, text, addSpecialTokens, path)
    if (unknownId !== undefined) return ids.map((id: number | undefined) => id ?? unknownId)
    const unknown = ids.indexOf(undefined as unknown as number)
    if (unknown >= 0)
      throw invalidCheckpoint(`${path} has no id for ${shown(tokens[unknown])}, which occurs in this text`)
    return ids
  }
}

function encode(tokenizer: LibraryTokenizer, text: string, addSpecialTokens: boolean, path: string) {
  try {
    return tokenizer.encode(text, { add_special_tokens: addSpecialTokens })
  } catch (error) {
    if (error instanceof BillfishError) throw error
    throw invalidCheckpoint(`${path} cannot encode this text: ${truncate((error as Error).message)}`, error)
  }
}

async function construct(
  json: TokenizerJson,
  config: Record<string, unknown>,
  tables: TokenTables,
): Promise<LibraryTokenizer> {
  const { Tokenizer } = tokenizersLibrary()
  const parts = {
    post_processor: null,
    ...json,
    // Special tokens and decoding are handled by Vocabulary.
    decoder: null,
    // The library lacks single_word and strips other spaces: see patchAddedTokenFlags().
    added_tokens: json.added_tokens.map((token) =>
      hasFlags(token) ? { ...token, lstrip: false, rstrip: false } : token,
    ),
    normalizer: withLiteralContents(json.normalizer ?? null),
    pre_tokenizer: withLiteralContents(json.pre_tokenizer ?? null),
  }
  const settings = {
    remove_space: config.remove_space === true,
    do_lowercase_and_remove_accent: config.do_lowercase_and_remove_accent === true,
    eos_token: tokenText(config.eos_token),
  }
  const { model } = json
  if (model.type !== 'BPE') {
    const vocab = model.vocab instanceof Map ? Object.fromEntries(model.vocab) : model.vocab
    const tokenizer = new Tokenizer({ ...parts, model: { ...model, vocab } }, settings)
    matchRustBehavior(tokenizer, parts, json.added_tokens)
    return tokenizer
  }
  const tokenizer = new Tokenizer({ ...parts, model: { ...model, vocab: {}, merges: [] } }, settings)
  matchRustBehavior(tokenizer, parts, json.added_tokens)
  tokenizer.model.tokens_to_ids = tables.ids
  tokenizer.model.vocab = tables.tokens
  tokenizer.model.unk_token_id = tables.ids.get(model.unk_token as string)
  const bpe = tokenizer.model as unknown as BpeModel
  await fillRanks(bpe.bpe_ranks, model.merges as readonly unknown[])
  const merge = bpe.bpe.bind(bpe)
  bpe.bpe = (word) => {
    if (word.length <= MAX_WORD_LENGTH) return merge(word)
    const what = `The text has a run of ${word.length} characters that this tokenizer does not split`
    throw new BillfishError('INVALID_OPTION', `${what}; at most ${MAX_WORD_LENGTH} can be encoded. Shorten it.`)
  }
  return tokenizer
}

/** Patches the library to match the Rust tokenizers, for which the files are made. */
function matchRustBehavior(
  tokenizer: LibraryTokenizer,
  parts: { readonly normalizer: unknown; readonly pre_tokenizer: unknown },
  addedTokens: readonly AddedToken[],
): void {
  patchAddedTokenFlags(tokenizer, addedTokens)
  patchNormalizers(tokenizer.normalizer, parts.normalizer)
  patchPreTokenizers(tokenizer.pre_tokenizer, parts.pre_tokenizer)
}

interface Splitting {
  /** Added tokens by content, raw and normalized. */
  readonly added_tokens_map: ReadonlyMap<string, { readonly content: string }>
  /** Finds added tokens in raw and in normalized text. */
  readonly splitter_unnormalized: { split(text: string): string[] }
  readonly splitter_normalized: { split(text: string): string[] }
}

function patchAddedTokenFlags(tokenizer: LibraryTokenizer, tokens: readonly AddedToken[]): void {
  if (!tokens.some(hasFlags)) return
  const { added_tokens_map, splitter_unnormalized, splitter_normalized } = tokenizer as unknown as Splitting
  const byContent = new Map(tokens.map((token) => [token.content, token]))
  const tokenOf = (section: string) => byContent.get(added_tokens_map.get(section)?.content ?? '')
  for (const splitter of [splitter_unnormalized, splitter_normalized]) {
    splitter.split = splitByFlags(splitter.split.bind(splitter), tokenOf)
  }
}

async function fillRanks(ranks: Map<string, number>, merges: readonly unknown[]): Promise<void> {
  if (merges.length > MAX_MERGES) throw new Error(`it has ${merges.length} merges; at most ${MAX_MERGES} can be read`)
  for (const [rank, merge] of merges.entries()) {
    const pair = typeof merge === 'string' ? merge.split(' ') : merge
    if (!Array.isArray(pair) || pair.length !== 2 || pair.some((token) => typeof token !== 'string')) {
      throw new Error(`merge ${rank} is ${shown(merge)}, which is not a pair of tokens`)
    }
    if (pair[0].length > MAX_TOKEN_LENGTH || pair[1].length > MAX_TOKEN_LENGTH) {
      throw new Error(`merge ${rank} is of tokens with more than ${MAX_TOKEN_LENGTH} characters`)
    }
    ranks.set(JSON.stringify(pair), rank)
    if (rank % SLICE_SIZE === SLICE_SIZE - 1) await yieldToEventLoop()
  }
}

/** The library interprets `$&` etc. in the content of Replace; the format does not. */
function withLiteralContents(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(withLiteralContents)
  if (!isObject(part)) return part
  const copy: Record<string, unknown> = { ...part }
  if (part.type === 'Replace' && typeof part.content === 'string') copy.content = part.content.replaceAll('$', '$$$$')
  for (const inner of ['normalizers', 'pretokenizers'])
    if (inner in part) copy[inner] = withLiteralContents(part[inner])
  return copy
}
