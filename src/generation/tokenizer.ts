import { access, stat } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { suggestPath } from '../hub/path-suggestions'
import { libraryEncoder } from './library-encoder'
import { MAX_TEXT_BYTES, tooMuchGrowth } from './long-text'
import { loadQwenTiktoken, QWEN_TIKTOKEN_FILE } from './qwen-tiktoken'
import { readJsonObject } from './text-file'
import { analyzePipeline } from './tokenizer-pipeline'
import type { EncodingTokenizer, Tokenizer } from './types'
import { MERGES_FILE, readVocabAndMerges, VOCAB_FILE } from './vocab-and-merges'
import { checkVocabulary, tokenTables, Vocabulary } from './vocabulary'

const TOKENIZER_FILE = 'tokenizer.json'
const CONFIG_FILE = 'tokenizer_config.json'
/** Twice the largest in use. */
const MAX_TOKENIZER_BYTES = 64 * 1024 * 1024
const MAX_CONFIG_BYTES = 16 * 1024 * 1024
/**
 * Maximum length of a text after expansion by an unknown pipeline, so that no derived array or string exceeds the
 * headroom of the thread heap limit.
 */
const MAX_EXPANDED_BYTES = 1 << 20

/**
 * Some SentencePiece vocabularies expand 16 times; files beyond this limit are considered malicious and encode nothing.
 */
const MAX_GROWTH = 256

/**
 * Loads the tokenizer of a checkpoint: `tokenizer.json`, else `vocab.json` and `merges.txt` (with
 * `tokenizer_config.json`), or `qwen.tiktoken` of Qwen v1. A large vocabulary takes a few tenths of a second, yielding
 * to the event loop.
 *
 * It encodes synchronously for as long as the files make it take: use it on a thread that can be terminated. On the
 * event loop use {@link findTokenizer}.
 * @throws BillfishError INVALID_CHECKPOINT if there is no tokenizer, or it is malformed
 */
export async function loadTokenizer(directory: string): Promise<EncodingTokenizer> {
  const tokenizer = await readTokenizer(directory, () => true)
  if (tokenizer === undefined) throw invalidCheckpoint(await noTokenizerMessage(directory))
  if (tokenizer.encode === undefined) throw tooMuchGrowth(tokenizer)
  return tokenizer as EncodingTokenizer
}

/**
 * Like {@link loadTokenizer}, but returns undefined if there is no tokenizer, and omits `encode` if the files could
 * make it slow.
 */
export function findTokenizer(directory: string): Promise<Tokenizer | undefined> {
  return readTokenizer(directory, ({ linear }) => linear)
}

async function readTokenizer(
  directory: string,
  encodes: (pipeline: { readonly linear: boolean }) => boolean,
): Promise<Tokenizer | undefined> {
  const found = await readFiles(directory)
  if (found === undefined) return loadQwenTiktoken(directory)
  const { file, contents, config } = found
  const json = await checkVocabulary(contents, file)
  const pipeline = analyzePipeline(json, file)
  const { growth, linear } = pipeline
  const maxTextBytes = linear ? MAX_TEXT_BYTES : growth > MAX_GROWTH ? 0 : Math.floor(MAX_EXPANDED_BYTES / growth)
  const tables = await tokenTables(json, config)
  const encode = encodes(pipeline) && maxTextBytes > 0 ? await libraryEncoder(json, config, tables, file) : undefined
  return new Vocabulary(json, config, tables, {
    file,
    fileBytes: (await stat(file)).size,
    growth,
    maxTextBytes,
    encode,
  })
}

/** Reads tokenizer.json, or its substitute, and the settings. */
async function readFiles(
  directory: string,
): Promise<{ file: string; contents: Record<string, unknown>; config: Record<string, unknown> } | undefined> {
  const file = join(directory, TOKENIZER_FILE)
  const contents = await readJsonObject(file, MAX_TOKENIZER_BYTES, 'model.vocab')
  const config = (await readJsonObject(join(directory, CONFIG_FILE), MAX_CONFIG_BYTES)) ?? {}
  return contents === undefined ? readVocabAndMerges(directory, config) : { file, contents, config }
}

/** Error text for a directory without a tokenizer: what is missing and what to do. */
export async function noTokenizerMessage(directory: string): Promise<string> {
  const status = await stat(directory).catch(() => undefined)
  if (!status?.isDirectory()) {
    const what = status === undefined ? 'does not exist' : 'is a file'
    return `${directory} ${what}: expected a directory with a tokenizer${await suggestPath(directory, resolve(directory))}`
  }
  const message = `${directory} has no tokenizer: neither ${TOKENIZER_FILE} nor ${QWEN_TIKTOKEN_FILE} is there, nor ${VOCAB_FILE} with ${MERGES_FILE}`
  for (const name of ['tokenizer.model', VOCAB_FILE]) {
    try {
      await access(join(directory, name))
    } catch {
      continue
    }
    return (
      `${message}. There is a ${name}: convert it to ${TOKENIZER_FILE} with transformers, ` +
      `AutoTokenizer.from_pretrained('${directory}').save_pretrained('${directory}')`
    )
  }
  return `${message}. Copy the tokenizer files of the released checkpoint into the directory`
}
