/** What a checkpoint directory holds beside its shards: copied, except for config.json and the index, whose numbers change. */
import { copyFile, mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { isObject } from '../checkpoint/json'
import type { Checkpoint } from '../checkpoint/types'
import type { GatedMlps } from './gated-mlp'
import { type NumberChange, numberAt, withNumbers } from './json-numbers'
import type { PaddedTensor } from './parts'
import { bytesOf } from './parts'
import { flush } from './workspace'
import { writing } from './write-errors'

/** Weights in other files would be of the old size, and contradict the new config.json. */
const OTHER_WEIGHTS = /\.(safetensors|gguf|pth)$|\.safetensors\.index\.json$|^pytorch_model.*\.bin(\.index\.json)?$/
/** What tools keep for themselves. */
const FOREIGN_DIRECTORIES = ['.git', '.cache']

export interface OtherFiles {
  /** Paths below the directory. */
  readonly copied: readonly string[]
  /** Weights that do not belong to the checkpoint that was padded. */
  readonly leftOut: readonly string[]
  /** The index of the shards. */
  readonly index: string | undefined
}

/** Lists what is there; links are taken for what they lead to. */
export async function listOtherFiles(checkpoint: Checkpoint): Promise<OtherFiles> {
  const shards = new Set(checkpoint.files.map((file) => basename(file)))
  const copied: string[] = []
  const leftOut: string[] = []
  let index: string | undefined
  const visit = async (below: string): Promise<void> => {
    for (const name of (await readdir(join(checkpoint.directory, below))).sort()) {
      const path = join(below, name)
      const status = await stat(join(checkpoint.directory, path)).catch(() => undefined) // a link that leads nowhere
      if (status?.isDirectory()) {
        if (!FOREIGN_DIRECTORIES.includes(name)) await visit(path)
      } else if (!status?.isFile() || path === 'config.json' || shards.has(path)) continue
      else if (
        below === '' &&
        name.endsWith('.safetensors.index.json') &&
        (await isIndexOf(checkpoint, path, shards))
      ) {
        index = path
      } else if (OTHER_WEIGHTS.test(name)) leftOut.push(path)
      else copied.push(path)
    }
  }
  await visit('')
  return { copied, leftOut, index }
}

async function isIndexOf(checkpoint: Checkpoint, path: string, shards: ReadonlySet<string>): Promise<boolean> {
  try {
    const index: unknown = JSON.parse(await readFile(join(checkpoint.directory, path), 'utf8'))
    const files = isObject(index) && isObject(index.weight_map) ? Object.values(index.weight_map) : []
    return files.length > 0 && files.every((file) => shards.has(file as string))
  } catch {
    return false // an index that was not read when the checkpoint was opened
  }
}

/** Copies everything except for config.json, puts it on disk, and writes the index with its new totals. */
export async function writeOtherFiles(
  checkpoint: Checkpoint,
  target: string,
  files: OtherFiles,
  changed: Iterable<PaddedTensor>,
): Promise<void> {
  for (const path of files.copied) {
    const to = join(target, path)
    await writing(to, 0, async () => {
      await mkdir(dirname(to), { recursive: true })
      await copyFile(join(checkpoint.directory, path), to)
      await flush(to)
      if (dirname(path) !== '.') await flush(dirname(to)) // of others the name is made durable with the directory's own
    })
  }
  if (files.index === undefined) return
  const text = await readFile(join(checkpoint.directory, files.index), 'utf8')
  const to = join(target, files.index)
  await writing(to, 0, () => writeFile(to, withNumbers(text, indexChanges(JSON.parse(text), changed)), { flush: true }))
}

/** transformers writes total_size in bytes, and newer versions total_parameters in elements. */
function indexChanges(index: unknown, changed: Iterable<PaddedTensor>): NumberChange[] {
  const added = { total_size: 0, total_parameters: 0 }
  const product = (shape: readonly number[]) => shape.reduce((elements, length) => elements * length, 1)
  for (const { source, shape, parts } of changed) {
    added.total_size += parts.reduce((sum, part) => sum + bytesOf(part), -source.bytes)
    added.total_parameters += product(shape) - product(source.shape)
  }
  return Object.entries(added).flatMap(([key, more]) => {
    const path = ['metadata', key]
    const before = numberAt(index, path)
    return before === undefined ? [] : [{ path, value: before + more }]
  })
}

/** Writes config.json with its new intermediate_size, and puts it on disk. */
export async function writeConfig(
  checkpoint: Checkpoint,
  target: string,
  found: GatedMlps,
  padded: number,
): Promise<void> {
  const text = await readFile(join(checkpoint.directory, 'config.json'), 'utf8')
  const value = padded * found.configFactor
  const to = join(target, 'config.json')
  const changed = withNumbers(
    text,
    found.configPaths.map((path) => ({ path, value })),
  )
  await writing(to, 0, () => writeFile(to, changed, { flush: true }))
}
