/** What a checkpoint directory holds beside its shards: copied, except for config.json and the index, whose numbers change. */
import { copyFile, mkdir, readdir, readFile, realpath, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join, sep } from 'node:path'
import { invalidCheckpoint } from '../checkpoint/invalid'
import { readWeightMap } from '../checkpoint/shards'
import type { Checkpoint } from '../checkpoint/types'
import { QUANTIZATION_FILES } from '../quantization/config'
import type { GatedMlps } from './gated-mlp'
import { changeNumbers, type NumberChange } from './json-numbers'
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
  /** Weights that do not belong to the checkpoint that was padded, and files whose names are no UTF-8. */
  readonly leftOut: readonly string[]
  /** Links to directories, links out of the checkpoint, and links that lead nowhere. */
  readonly links: readonly string[]
  /** The index of the shards. */
  readonly index: string | undefined
  /** Of what is copied. */
  readonly bytes: number
}

/**
 * Where a checkpoint's links may lead: into its own directory; from a snapshot in the Hub's cache, whose files are links,
 * also to the blobs of the same repository (`models--NAME/snapshots/REVISION` and `models--NAME/blobs`).
 */
async function ownPlaces(directory: string): Promise<string[]> {
  const root = await realpath(directory)
  const isSnapshot = basename(dirname(root)) === 'snapshots'
  return [root, ...(isSnapshot ? [join(dirname(dirname(root)), 'blobs')] : [])]
}

/** Whether a link leads to a place of the checkpoint's own. */
async function staysInside(path: string, places: readonly string[]): Promise<boolean> {
  try {
    const target = await realpath(path)
    return places.some((place) => target.startsWith(place + sep))
  } catch {
    return false // it leads nowhere, or round in circles
  }
}

/**
 * Everything of a padded checkpoint comes from the checkpoint: a link planted in a download must not bring a file of this
 * machine into what may be published. What a checkpoint cannot be read without is refused where it is such a link, since a
 * copy without it would be another checkpoint.
 * @throws BillfishError INVALID_CHECKPOINT where a shard, an index or a config is a link out of the checkpoint
 */
export async function refuseForeignLinks(checkpoint: Checkpoint): Promise<void> {
  const places = await ownPlaces(checkpoint.directory)
  const needed = ['config.json', ...QUANTIZATION_FILES, ...checkpoint.files.map((file) => basename(file))]
  for (const entry of await readdir(checkpoint.directory, { withFileTypes: true })) {
    if (!entry.isSymbolicLink()) continue
    if (!needed.includes(entry.name) && !entry.name.endsWith('.safetensors.index.json')) continue
    const path = join(checkpoint.directory, entry.name)
    const target = await realpath(path).catch(() => undefined) // one that leads nowhere was not read either
    if (target === undefined || (await staysInside(path, places))) continue
    throw invalidCheckpoint(
      `${path} is a link to ${target}, outside the checkpoint; only links within it, or from a snapshot to the blobs of its ` +
        'cache, are followed. Put the file itself there, or pad the directory that has it',
    )
  }
}

/** Lists what is there. Of directories only those that are no links are entered, so that each is visited once. */
export async function listOtherFiles(checkpoint: Checkpoint): Promise<OtherFiles> {
  const shards = new Set(checkpoint.files.map((file) => basename(file)))
  const places = await ownPlaces(checkpoint.directory)
  const copied: string[] = []
  const leftOut: string[] = []
  const links: string[] = []
  let index: string | undefined
  let bytes = 0
  const visit = async (below: string): Promise<void> => {
    const entries = await readdir(join(checkpoint.directory, below), { withFileTypes: true })
    for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const { name } = entry
      const path = join(below, name)
      if (entry.isDirectory()) {
        if (!FOREIGN_DIRECTORIES.includes(name)) await visit(path)
        continue
      }
      if (path === 'config.json' || shards.has(path)) continue
      if (!entry.isFile() && !entry.isSymbolicLink()) continue // a socket, a pipe
      if (entry.isSymbolicLink() && !(await leadsToOwnFile(join(checkpoint.directory, path), places))) links.push(path)
      else if (
        below === '' &&
        name.endsWith('.safetensors.index.json') &&
        (await isIndexOf(checkpoint, path, shards))
      ) {
        index = path
      } else if (OTHER_WEIGHTS.test(name)) leftOut.push(path)
      else {
        const status = await stat(join(checkpoint.directory, path)).catch(() => undefined)
        if (status === undefined) {
          leftOut.push(path) // a name that is no UTF-8, which cannot be given back to the system
          continue
        }
        copied.push(path)
        bytes += status.size
      }
    }
  }
  await visit('')
  return { copied, leftOut, links, index, bytes }
}

async function leadsToOwnFile(path: string, places: readonly string[]): Promise<boolean> {
  return (await staysInside(path, places)) && (await stat(path)).isFile()
}

async function isIndexOf(checkpoint: Checkpoint, path: string, shards: ReadonlySet<string>): Promise<boolean> {
  try {
    const files = [...((await readWeightMap(join(checkpoint.directory, path))) ?? new Map()).values()]
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
  signal: AbortSignal | undefined,
): Promise<void> {
  for (const path of files.copied) {
    signal?.throwIfAborted()
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
  await writing(to, 0, () => writeFile(to, changeNumbers(text, indexChanges(changed)), { flush: true }))
}

/** transformers writes total_size in bytes, and newer versions total_parameters in elements. */
function indexChanges(changed: Iterable<PaddedTensor>): NumberChange[] {
  const added = { total_size: 0, total_parameters: 0 }
  const product = (shape: readonly number[]) => shape.reduce((elements, length) => elements * length, 1)
  for (const { source, shape, parts } of changed) {
    added.total_size += parts.reduce((sum, part) => sum + bytesOf(part), -source.bytes)
    added.total_parameters += product(shape) - product(source.shape)
  }
  return Object.entries(added).map(([key, more]) => ({ path: ['metadata', key], change: (before) => before + more }))
}

/** Writes config.json with its new intermediate_size, and puts it on disk. */
export async function writeConfig(
  checkpoint: Checkpoint,
  target: string,
  found: GatedMlps,
  padded: number,
): Promise<void> {
  const text = await readFile(join(checkpoint.directory, 'config.json'), 'utf8')
  const to = join(target, 'config.json')
  const changed = changeNumbers(
    text,
    found.configPaths.map((path) => ({ path, change: () => padded * found.configFactor })),
  )
  await writing(to, 0, () => writeFile(to, changed, { flush: true }))
}
