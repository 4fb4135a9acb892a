/** Which files of a repository billfish reads: never pickled weights, GGUF, or code. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { readJsonFile } from '../checkpoint/files'
import { isObject } from '../checkpoint/json'
import { listShards } from '../checkpoint/shards'
import { BillfishError } from '../common/errors'
import { sizeOf } from './cache'
import type { HubFile } from './listing'

/** Configs, tokenizer, chat templates, indices of safetensors files and the pooling of embedding models. */
const SETTINGS = /^([^/]+\.(json|jinja|tiktoken)|merges\.txt|[^/]*Pooling\/config\.json)$/
/** Indices of weights that are not read. */
const OTHER_INDEX = /(?<!\.safetensors)\.index\.json$/
/** No file but those of weights is read beyond this size. */
const MAX_SETTINGS_BYTES = 64 * 1024 * 1024
const MAX_QUANTIZE_CONFIG_BYTES = 4 * 1024 * 1024

/** Whether a file is needed beside the weights. */
export function isSettings({ path, size }: Pick<HubFile, 'path' | 'size'>): boolean {
  return SETTINGS.test(path) && !OTHER_INDEX.test(path) && size <= MAX_SETTINGS_BYTES
}

/**
 * Names of the safetensors files, of those that the repository has or should have.
 * @param directory a snapshot, with its settings
 * @param names what is beside config.json, in the repository or on disk
 * @throws BillfishError INVALID_CHECKPOINT if there are none, or it is unclear which belong together
 */
export async function shardNames(directory: string, names: readonly string[]): Promise<readonly string[]> {
  if (!names.includes('config.json')) {
    throw new BillfishError(
      'INVALID_CHECKPOINT',
      `${directory} has no config.json: expected a checkpoint as transformers loads it.`,
    )
  }
  const config = await readJsonFile(join(directory, 'quantize_config.json'), MAX_QUANTIZE_CONFIG_BYTES, {}).catch(
    () => {},
  )
  const baseName = isObject(config) ? config.model_file_base_name : undefined
  return (await listShards(directory, names, typeof baseName === 'string' ? baseName : undefined)).files
}

/** What a snapshot on disk lacks: paths of weights, or of config.json; empty if it can be loaded. */
export async function missingFrom(snapshot: string): Promise<string[]> {
  const names = await readdir(snapshot).catch((): string[] => [])
  const isHere = async (name: string) => (await sizeOf(join(snapshot, name))) !== undefined
  if (!(await isHere('config.json'))) return ['config.json']
  let shards: readonly string[]
  try {
    shards = await shardNames(snapshot, names)
  } catch (error) {
    if (error instanceof BillfishError && !names.some((name) => name.endsWith('.safetensors')))
      return ['model.safetensors']
    throw error
  }
  const here = await Promise.all(shards.map(isHere))
  return shards.filter((_, i) => !here[i])
}
