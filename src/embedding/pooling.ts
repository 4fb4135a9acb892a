/**
 * How a checkpoint turns hidden states into one vector, and what it puts before a text: `modules.json`,
 * `1_Pooling/config.json` and `config_sentence_transformers.json` of sentence-transformers, in the spelling of 2025 and that
 * of version 6.
 */
import { join } from 'node:path'
import { readJsonFile } from '../checkpoint/files'
import { invalidCheckpoint, shown } from '../checkpoint/invalid'
import { isObject } from '../checkpoint/json'
import { BillfishError } from '../common/errors'

export type Pooling = 'lasttoken' | 'mean' | 'cls'

export interface EmbeddingConfig {
  readonly pooling: Pooling
  /** Whether the positions of the text before an input are pooled along with its own. */
  readonly includePrompt: boolean
  /** Whether vectors have length 1 unless asked for otherwise. */
  readonly normalize: boolean
  /** Text before a query, with its instruction: `Instruct: ...\nQuery:`. */
  readonly queryPrompt: string | undefined
  /** Text before every text that has no instruction; usually none. */
  readonly defaultPrompt: string
}

/** Without any files. */
export const PLAIN_EMBEDDING: EmbeddingConfig = {
  pooling: 'lasttoken',
  includePrompt: true,
  normalize: true,
  queryPrompt: undefined,
  defaultPrompt: '',
}

const MAX_BYTES = 1024 * 1024
const LIMITS = { maxDepth: 32 }

/** The modes of sentence-transformers 6, and the flags of older versions. */
const POOLINGS: Readonly<Record<string, Pooling>> = {
  lasttoken: 'lasttoken',
  mean: 'mean',
  cls: 'cls',
  pooling_mode_lasttoken: 'lasttoken',
  pooling_mode_mean_tokens: 'mean',
  pooling_mode_cls_token: 'cls',
}

/**
 * Reads the files, if there are any; by default the last token is pooled and vectors are normalized.
 * @throws BillfishError INVALID_CHECKPOINT; UNSUPPORTED_MODEL for other ways of pooling
 */
export async function readEmbeddingConfig(directory: string): Promise<EmbeddingConfig> {
  const read = (name: string) => readJsonFile(join(directory, name), MAX_BYTES, LIMITS)
  const modules = await read('modules.json')
  if (modules !== undefined && (!Array.isArray(modules) || !modules.every(isObject))) {
    throw invalidCheckpoint(`${join(directory, 'modules.json')} must be a list of modules`)
  }
  const kinds = modules?.map(({ type, path }) => ({ kind: String(type).split('.').at(-1), path: String(path) }))
  const unknown = kinds?.find(({ kind }) => !['Transformer', 'Pooling', 'Normalize'].includes(kind as string))
  if (unknown) {
    throw unsupported(join(directory, 'modules.json'), `a module ${shown(unknown.kind)}`)
  }
  const folder = kinds?.find(({ kind }) => kind === 'Pooling')?.path ?? '1_Pooling'
  if (folder.includes('..') || folder.startsWith('/')) {
    throw invalidCheckpoint(`${join(directory, 'modules.json')} names ${shown(folder)}, outside the checkpoint`)
  }
  const file = join(folder, 'config.json')
  const pooling = await read(file)
  const prompts = await read('config_sentence_transformers.json')
  return {
    pooling: poolingOf(pooling, join(directory, file)),
    includePrompt: !(isObject(pooling) && pooling.include_prompt === false),
    normalize: kinds === undefined || kinds.some(({ kind }) => kind === 'Normalize'),
    ...promptsOf(prompts),
  }
}

function poolingOf(config: unknown, where: string): Pooling {
  if (config === undefined) return 'lasttoken'
  if (!isObject(config)) throw invalidCheckpoint(`${where} must hold an object`)
  const flags = Object.keys(config).filter((key) => key.startsWith('pooling_mode_') && config[key] === true)
  const modes = config.pooling_mode === undefined ? flags : [config.pooling_mode].flat()
  const [mode] = modes
  const pooling = typeof mode === 'string' && Object.hasOwn(POOLINGS, mode) ? POOLINGS[mode] : undefined
  if (pooling === undefined || modes.length !== 1) {
    throw unsupported(where, `pooling by ${shown(modes.length === 1 ? mode : modes)}`)
  }
  return pooling
}

function unsupported(where: string, what: string): BillfishError {
  const message = `${where} asks for ${what}; billfish pools the last token, the first one or the mean, and normalizes.`
  return new BillfishError('UNSUPPORTED_MODEL', message)
}

function promptsOf(config: unknown): Pick<EmbeddingConfig, 'queryPrompt' | 'defaultPrompt'> {
  const prompts = isObject(config) && isObject(config.prompts) ? config.prompts : {}
  const promptOf = (name: unknown) => {
    const text = typeof name === 'string' && Object.hasOwn(prompts, name) ? prompts[name] : undefined
    return typeof text === 'string' ? text : undefined
  }
  const named = isObject(config) ? promptOf(config.default_prompt_name) : undefined
  return { queryPrompt: promptOf('query'), defaultPrompt: named ?? '' }
}

/**
 * Text before a query. The checkpoint's own prompt tells what stands between the instruction and the query: Qwen3-Embedding
 * has no space there, gte-Qwen2 has one.
 */
export function instructionPrompt(instruct: string, queryPrompt: string | undefined): string {
  const query = /\nQuery:\s?$/.exec(queryPrompt ?? '')?.[0] ?? '\nQuery:'
  return `Instruct: ${instruct}${query}`
}
