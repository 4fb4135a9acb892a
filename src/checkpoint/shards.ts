/** Finds the safetensors files of a checkpoint directory and the tensors in them. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { forEachInSlices } from '../common/event-loop'
import type { TensorRef } from '../native/weights'
import { forEachConcurrently } from './concurrency'
import { isMissing, readJsonFile } from './files'
import { invalidCheckpoint, quoted, shown } from './invalid'
import { isObject } from './json'
import { readSafetensorsHeader, type SafetensorsHeader } from './safetensors'
import { NON_TEXT_COMPONENT, TensorTable } from './tensors'
import type { UnsupportedTensor } from './types'

/** A model with 1000 experts in 60 layers has 200,000 tensors and an index of about 20 MB. */
const MAX_INDEX_BYTES = 32 * 1024 * 1024
const INDEX_LIMITS = { maxDepth: 8, maxValues: 400_000, nonFinite: true, mapAt: 'weight_map' }
const MAX_SHARDS = 10_000
/** Headers read concurrently: enough to hide the latency of a network file system. */
const CONCURRENT_READS = 16

interface ShardList {
  readonly files: readonly string[]
  /** Tensor name -> file name, if there is an index. */
  readonly weightMap: ReadonlyMap<string, string>
  /** Path of the index, for error messages. */
  readonly index: string | undefined
}

/** Whether a name can only refer to a file in the directory itself. */
function isPlainFileName(name: string): boolean {
  return name !== '' && name.length <= 255 && !/[/\\\0:]/.test(name) && name !== '.' && name !== '..'
}

/** The `weight_map` of an index; undefined if the file does not exist. @throws BillfishError INVALID_CHECKPOINT */
export async function readWeightMap(path: string): Promise<ReadonlyMap<string, unknown> | undefined> {
  const index = await readJsonFile(path, MAX_INDEX_BYTES, INDEX_LIMITS)
  if (index === undefined) return undefined
  const map = isObject(index) ? index.weight_map : undefined
  if (map instanceof Map) return map
  throw invalidCheckpoint(`${path}: weight_map is ${shown(map)}, not an object of file names`)
}

/**
 * The shards listed in an index, without missing ones that hold nothing of the text model.
 * @param present files in the directory
 * @returns undefined if the index does not exist
 * @throws BillfishError INVALID_CHECKPOINT
 */
async function readIndex(
  directory: string,
  fileName: string,
  present: readonly string[],
): Promise<ShardList | undefined> {
  const path = join(directory, fileName)
  const weightMap = await readWeightMap(path)
  if (weightMap === undefined) return undefined
  const there = new Set(present)
  const found = new Set<string>()
  await forEachInSlices(weightMap, ([tensor, file]) => {
    if (typeof file !== 'string' || !isPlainFileName(file) || !file.endsWith('.safetensors')) {
      throw invalidCheckpoint(
        `${path} places tensor ${quoted(tensor)} in ${shown(file)}; only safetensors files in the same directory are allowed`,
      )
    }
    if (there.has(file) || !NON_TEXT_COMPONENT.test(tensor)) found.add(file)
  })
  const files = [...found].sort()
  if (files.length === 0) throw invalidCheckpoint(`${path}: weight_map names no file`)
  if (files.length > MAX_SHARDS) {
    throw invalidCheckpoint(`${path} names ${files.length} files; at most ${MAX_SHARDS} are read`)
  }
  return { files, weightMap: weightMap as Map<string, string>, index: path }
}

function noSafetensors(directory: string, names: readonly string[]): Error {
  const other = names.find((name) => /\.(bin|pt|pth|gguf|ckpt)$/.test(name))
  const hint = other === undefined ? '' : ` (${quoted(other)} is in a format that billfish does not read)`
  return invalidCheckpoint(
    `${directory} has no safetensors file${hint}; expected model.safetensors, or model.safetensors.index.json and its shards`,
  )
}

/**
 * Search order: model.safetensors; model.safetensors.index.json; the file (or index) that `model_file_base_name` in
 * quantize_config.json names; the only index in the directory; the only safetensors file.
 * @param names files that the directory has, or will have; indices among them must be there
 * @throws BillfishError INVALID_CHECKPOINT
 */
export async function listShards(
  directory: string,
  names: readonly string[],
  baseName: string | undefined,
): Promise<ShardList> {
  const single = (file: string): ShardList => ({ files: [file], weightMap: new Map(), index: undefined })
  for (const base of ['model', ...(baseName === undefined ? [] : [baseName])]) {
    if (names.includes(`${base}.safetensors`)) return single(`${base}.safetensors`)
    const index = `${base}.safetensors.index.json`
    const list = names.includes(index) ? await readIndex(directory, index, names) : undefined
    if (list !== undefined) return list
  }
  const indices = names.filter((name) => name.endsWith('.safetensors.index.json'))
  const [onlyIndex] = indices
  if (indices.length === 1 && onlyIndex !== undefined) {
    const list = await readIndex(directory, onlyIndex, names)
    if (list !== undefined) return list
  }
  const files = names.filter((name) => name.endsWith('.safetensors'))
  const [onlyFile] = files
  if (onlyFile === undefined) throw noSafetensors(directory, names)
  if (files.length === 1) return single(onlyFile)
  throw invalidCheckpoint(
    `${directory} has ${files.length} safetensors files (${files.slice(0, 4).map(quoted).join(', ')}${files.length > 4 ? ', ...' : ''}) ` +
      'and no model.safetensors.index.json to say which belong together; download the index',
  )
}

async function namesIn(directory: string): Promise<string[]> {
  try {
    return await readdir(directory)
  } catch (error) {
    const reason = isMissing(error)
      ? 'does not exist or is not a directory'
      : `cannot be read: ${(error as Error).message}`
    throw invalidCheckpoint(`The checkpoint directory ${directory} ${reason}`, error)
  }
}

/**
 * Checks that tensors are in the files that the index says. Names that no file has are ignored: whole components, such
 * as mtp layers, may have been removed, and a required tensor is reported when it is requested.
 */
async function checkIndex({ weightMap, index, files }: ShardList, table: TensorTable): Promise<void> {
  await forEachInSlices(weightMap, ([name, file]) => {
    const tensor = table.tensors.get(name) ?? table.unsupported.get(name)
    if (tensor === undefined || files[tensor.file] === file) return
    throw invalidCheckpoint(
      `${index} places tensor ${quoted(name)} in ${quoted(file)}, but it is in ${quoted(files[tensor.file] ?? '')}; ` +
        'index and shards are from different versions',
    )
  })
}

/**
 * Finds the safetensors files of a checkpoint and reads their headers.
 *
 * @param baseName `model_file_base_name` of quantize_config.json, if any
 * @returns the table of all tensors (with absolute file paths) and the total file size in bytes
 * @throws BillfishError INVALID_CHECKPOINT; the reason of the signal if it aborts
 */
export async function readTensors(
  directory: string,
  baseName: string | undefined,
  signal: AbortSignal | undefined,
): Promise<{ table: TensorTable; bytes: number }> {
  if (baseName !== undefined && !isPlainFileName(baseName)) {
    throw invalidCheckpoint(`${directory}: model_file_base_name ${shown(baseName)} is not a plain file name`)
  }
  const shards = await listShards(directory, await namesIn(directory), baseName)
  const paths = shards.files.map((file) => join(directory, file))
  const headers: SafetensorsHeader[] = []
  await forEachConcurrently(paths.length, CONCURRENT_READS, async (i) => {
    headers[i] = await readSafetensorsHeader(paths[i] as string, i, signal)
  })
  signal?.throwIfAborted()

  const tensors = new Map<string, TensorRef>()
  const unsupported = new Map<string, UnsupportedTensor>()
  const table = new TensorTable(paths, tensors, unsupported)
  /** Whether to use this tensor: of duplicates, the one in the file that the index names. */
  const counts = (tensor: UnsupportedTensor): boolean => {
    const first = tensors.get(tensor.name) ?? unsupported.get(tensor.name)
    if (first === undefined) return true
    const [here, there] = [tensor, first].map(({ file }) => shards.files[file] ?? '') as [string, string]
    const named = shards.weightMap.get(tensor.name)
    if (named === there) return false
    if (named !== here) {
      throw invalidCheckpoint(
        `Tensor ${table.describe(first)} is stored a second time in ${quoted(here)}, and the index does not say which one to use`,
      )
    }
    tensors.delete(tensor.name)
    unsupported.delete(tensor.name)
    return true
  }
  let bytes = 0
  for (const header of headers) {
    bytes += header.bytes
    await forEachInSlices(header.tensors, (tensor) => {
      if (counts(tensor)) tensors.set(tensor.name, tensor)
    })
    await forEachInSlices(header.unsupported, (tensor) => {
      if (counts(tensor)) unsupported.set(tensor.name, tensor)
    })
  }
  await checkIndex(shards, table)
  return { table, bytes }
}
