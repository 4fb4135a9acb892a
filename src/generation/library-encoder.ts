import { bounded, invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../errors'
import { SLICE_SIZE, yieldToEventLoop } from '../event-loop'
import { hasFlags, splitByFlags } from './added-token-flags'
import { tokenizersLibrary } from './libraries'
import { patchNormalizers } from './normalizers'
import { patchPreTokenizers } from './pre-tokenizers'
import type { Encode } from './types'
import { type AddedToken, MAX_TOKEN_LENGTH, type TokenizerJson, type TokenTables, tokenText } from './vocabulary'

type LibraryTokenizer = InstanceType<ReturnType<typeof tokenizersLibrary>['Tokenizer']>
type BpeModel = { bpe_ranks: Map<string, number>; bpe(word: string): string[] }

/** Merges of one vocabulary, half a million of which are the most in use. */
const MAX_MERGES = 1 << 20
/**
 * Characters (of a byte-level vocabulary: bytes) that may come to the model as one word. Merging takes about 400 bytes of
 * memory for each. Where nothing splits a text, as in SentencePiece vocabularies, the word is the text.
 */
const LONGEST_WORD = 1 << 20

/**
 * Encodes with the library that takes a tokenizer.json. Its own tables, which take most of the time, are filled by slices.
 * @param tables of the same file; shared with the library, which does not change them
 * @throws BillfishError INVALID_CHECKPOINT for what the library cannot do
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
    throw invalidCheckpoint(`${path} cannot be read: ${bounded((error as Error).message)}`, error)
  }
  // The library has unknown words of the other models, but not of this one.
  const unknownId = json.model.type === 'WordLevel' ? tables.ids.get(json.model.unk_token as string) : undefined
  return (text, { addSpecialTokens = true } = {}) => {
    const { ids, tokens } = encode(tokenizer, text, addSpecialTokens, path)
    if (unknownId !== undefined) return ids.map((id: number | undefined) => id ?? unknownId)
    const unknown = ids.indexOf(undefined as unknown as number)
    if (unknown >= 0) throw invalidCheckpoint(`${path} has no id for ${shown(tokens[unknown])}, which this text needs`)
    return ids
  }
}

function encode(tokenizer: LibraryTokenizer, text: string, addSpecialTokens: boolean, path: string) {
  try {
    return tokenizer.encode(text, { add_special_tokens: addSpecialTokens })
  } catch (error) {
    if (error instanceof BillfishError) throw error
    throw invalidCheckpoint(`${path} cannot encode this text: ${bounded((error as Error).message)}`, error)
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
    // Special tokens are told by the vocabulary, and decoding is done there, too.
    decoder: null,
    // The library knows no single_word, and other spaces: see patchAddedTokenFlags().
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
    if (word.length <= LONGEST_WORD) return merge(word)
    const what = `The text has ${word.length} characters in one that this tokenizer does not split`
    throw new BillfishError('INVALID_OPTION', `${what}; at most ${LONGEST_WORD} can be encoded. Shorten it.`)
  }
  return tokenizer
}

/** Lets the library do as Hugging Face's tokenizers in Rust, for which the files are made. */
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
  /** Added tokens by their content, and by what the normalizer makes of it. */
  readonly added_tokens_map: ReadonlyMap<string, { readonly content: string }>
  /** What is found in a text, and in a normalized one. */
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

/** The library lets `$&` and the like in the content of a Replace stand for what was found; in the format they do not. */
function withLiteralContents(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(withLiteralContents)
  if (!isObject(part)) return part
  const copy: Record<string, unknown> = { ...part }
  if (part.type === 'Replace' && typeof part.content === 'string') copy.content = part.content.replaceAll('$', '$$$$')
  for (const inner of ['normalizers', 'pretokenizers'])
    if (inner in part) copy[inner] = withLiteralContents(part[inner])
  return copy
}
