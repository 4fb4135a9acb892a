import { createHash } from 'node:crypto'
import { type FileHandle, realpath, stat } from 'node:fs/promises'
import { basename, dirname, isAbsolute, join, relative, resolve } from 'node:path'
import { readExactly, withFile } from '../checkpoint/files'
import type { Checkpoint } from '../checkpoint/types'
import { UNFINISHED_SUFFIX } from '../checkpoint/unfinished-copy'
import { emitCheckpointWarnings } from '../checkpoint/warnings'
import { BillfishError } from '../common/errors'
import { checkpointDirectory } from '../hub/checkpoint-directory'
import type { TensorRef } from '../native/weights'
import { openCheckpoint } from '../open-checkpoint'
import { readPath } from '../options/path'
import { progressTo } from '../options/progress'
import { readOptions } from '../options/read-options'
import { ownSignal } from '../options/signal'
import type { PaddingPlacement } from '../quantization/padding'
import { findGatedMlps, type GatedMlps } from './gated-mlp'
import { listOtherFiles, refuseForeignLinks, writeConfig, writeOtherFiles } from './other-files'
import { padLinear } from './pad-linear'
import { choosePaddedSize, type PadOptions, padOptions } from './pad-options'
import type { PaddedTensor } from './parts'
import { planShard, readRawHeader, type ShardPlan, writeShard } from './shard'
import { type PaddingVerification, verifyPadding } from './verify'
import { refuseExisting, Workspace } from './workspace'
import { checkRoom, writing } from './write-errors'

/** What {@link padCheckpoint} did. */
export interface PadResult {
  /** False for a dry run, and if there is nothing to pad. */
  readonly written: boolean
  /** Channels between gate and down projection, before and after. */
  readonly size: number
  readonly paddedSize: number
  readonly placement: PaddingPlacement
  /** The padded size is a multiple of this: ranks times whole groups and tiles. */
  readonly multiple: number
  /** Name of the decoder layers whose MLPs are padded, such as `model.layers`. */
  readonly layers: string
  readonly layerCount: number
  /** Tensors that become larger. */
  readonly paddedTensors: number
  /** Modules elsewhere with the same names that are left alone, such as a vision tower's. */
  readonly lookAlikes: readonly string[]
  /** What else is not copied: weights that are not part of the checkpoint, and files whose names are not UTF-8. */
  readonly leftOut: readonly string[]
  /** Links to directories and links out of the checkpoint, which are neither followed nor copied. */
  readonly links: readonly string[]
  /** Bytes of all safetensors files, before and after. */
  readonly bytes: number
  readonly paddedBytes: number
  readonly files: number
  /** Files that an earlier, interrupted call had finished. */
  readonly reusedFiles: number
  /** Undefined if verification was turned off, or nothing was written. */
  readonly verification: PaddingVerification | undefined
}

/**
 * Writes a copy of a checkpoint whose MLPs are padded with zero channels, so that any engine can split it for tensor
 * parallelism. The format (16-bit, GPTQ, AWQ or compressed-tensors) stays the same, and so do the model's outputs.
 *
 * Works in slabs, so memory does not depend on the checkpoint's size. Output goes to `OUTPUT.partial`, which is renamed
 * last; after an abort, an error or a crash, the same call resumes with the files that were finished.
 * @example
 * ```js
 * const { size, paddedSize } = await padCheckpoint('./Qwen2-72B-Instruct-AWQ', './padded', { parallelSizes: [2, 4, 8] })
 * ```
 * @param directory a checkpoint as released on the Hugging Face Hub, or its name there
 * @param output a directory that does not exist yet
 * @throws BillfishError INVALID_OPTION (an impossible size, an output that exists or cannot be written),
 *   INVALID_CHECKPOINT, UNSUPPORTED_MODEL, OUT_OF_MEMORY (no room on disk), INTERNAL (the verification failed); the
 *   signal's reason once it aborts
 */
export async function padCheckpoint(
  directory: string | URL,
  output: string | URL,
  options: PadOptions = {},
): Promise<PadResult> {
  const given = readOptions(padOptions, options)
  const [source, target] = [readPath(directory, 'directory'), readPath(output, 'output')]
  const { signal, release } = ownSignal(given.signal)
  const failing = new AbortController() // by onProgress, which ends the padding
  const onProgress = progressTo(given.onProgress, (error) => failing.abort(error))
  try {
    return await pad(source, target, { ...given, signal: AbortSignal.any([signal, failing.signal]), onProgress })
  } finally {
    release()
  }
}

async function pad(
  directory: string,
  output: string,
  options: PadOptions & { readonly signal: AbortSignal },
): Promise<PadResult> {
  const { signal } = options
  signal.throwIfAborted()
  const target = resolve(output)
  const checkpoint = await openCheckpoint(await checkpointDirectory(directory, 'checkpoint', { signal }), { signal })
  await refuseInside(checkpoint.directory, target)
  await refuseForeignLinks(checkpoint)
  const found = findGatedMlps(checkpoint)
  emitCheckpointWarnings(checkpoint.notices)
  const { padded, multiple } = choosePaddedSize(checkpoint, found, options)
  const placement = options.placement ?? 'tail'
  const changed = await padMlps(checkpoint, found, padded, placement)
  const shards = await planShards(checkpoint, changed)
  const others = await listOtherFiles(checkpoint)
  const result: PadResult = {
    written: false,
    size: found.width,
    paddedSize: padded,
    placement,
    multiple,
    layers: found.layers,
    layerCount: found.mlps.length,
    paddedTensors: changed.size,
    lookAlikes: found.lookAlikes,
    leftOut: others.leftOut,
    links: others.links,
    bytes: checkpoint.bytes,
    paddedBytes: shards.reduce((sum, { bytes }) => sum + bytes, 0),
    files: shards.length,
    reusedFiles: 0,
    verification: undefined,
  }
  if (padded === found.width) return result
  await refuseExisting(target)
  if (options.dryRun) return result
  const workspace = await Workspace.open(target, await fingerprintOf(checkpoint, padded, placement))
  try {
    const reusedFiles = await writeShards(workspace, shards, others.bytes, options)
    signal?.throwIfAborted()
    await writeOtherFiles(checkpoint, workspace.checkpoint, others, changed.values(), signal)
    const verification =
      options.verify === false ? undefined : await verify(workspace, checkpoint, found, shards, result, options)
    signal?.throwIfAborted()
    await writeConfig(checkpoint, workspace.checkpoint, found, padded)
    await workspace.publish()
    return { ...result, written: true, reusedFiles, verification }
  } catch (error) {
    await workspace.unlock()
    throw error
  }
}

/** What is written there would become part of the checkpoint that is copied, or take its place. */
async function refuseInside(directory: string, output: string): Promise<void> {
  const source = await realpath(directory)
  const parent = await realpath(dirname(output)).catch(() => dirname(output)) // one that does not exist is told of later
  const isAtOrIn = (path: string, other: string) => {
    const way = relative(other, path)
    return !/^\.\.($|[/\\])/.test(way) && !isAbsolute(way)
  }
  const target = join(parent, basename(output))
  if (isAtOrIn(target, source)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${output} lies in the checkpoint's own directory ${directory}; name one beside it.`,
    )
  }
  if (isAtOrIn(source, `${target}${UNFINISHED_SUFFIX}`)) {
    throw new BillfishError(
      'INVALID_OPTION',
      `${output}${UNFINISHED_SUFFIX} is needed for unfinished files, but the checkpoint ${directory} is there; name another output ` +
        'directory.',
    )
  }
}

/** The tensors that change, by name. */
async function padMlps(
  checkpoint: Checkpoint,
  { width, mlps }: GatedMlps,
  padded: number,
  placement: PaddingPlacement,
): Promise<Map<string, PaddedTensor>> {
  const changed = new Map<string, PaddedTensor>()
  if (padded === width) return changed
  const read = (tensor: TensorRef) => {
    const path = checkpoint.files[tensor.file] as string
    return withFile(path, (file) => readExactly(file, tensor.offset, tensor.bytes, path))
  }
  for (const { gate, up, down } of mlps) {
    for (const [linear, dimension] of [
      [gate, 'outputs'],
      [up, 'outputs'],
      [down, 'inputs'],
    ] as const) {
      const tensors = await padLinear(linear, { checkpoint, read, dimension, padded, placement })
      for (const tensor of tensors) changed.set(tensor.source.name, tensor)
    }
  }
  return changed
}

async function planShards(checkpoint: Checkpoint, changed: ReadonlyMap<string, PaddedTensor>): Promise<ShardPlan[]> {
  const plans: ShardPlan[] = []
  for (const [file, path] of checkpoint.files.entries()) {
    plans.push(await planShard(checkpoint, file, (await stat(path)).size, changed))
  }
  return plans
}

/** Changes with anything that decides a byte of the shards. Contents are told by their files' sizes, times and headers. */
async function fingerprintOf(checkpoint: Checkpoint, padded: number, placement: PaddingPlacement): Promise<string> {
  const hash = createHash('sha256')
  hash.update(JSON.stringify({ layout: 1, padded, placement, config: checkpoint.config }))
  hash.update(JSON.stringify(checkpoint.quantization))
  for (const path of checkpoint.files) {
    const { size, mtimeMs } = await stat(path)
    hash.update(JSON.stringify([basename(path), size, mtimeMs]))
    hash.update((await readRawHeader(path)).text)
  }
  return hash.digest('hex')
}

/**
 * Writes the shards that are not there yet, and puts each on disk while the next one is written.
 * @param otherBytes of other files, for which there must be room, too
 */
async function writeShards(
  workspace: Workspace,
  shards: readonly ShardPlan[],
  otherBytes: number,
  options: PadOptions,
): Promise<number> {
  const { signal, onProgress } = options
  const finished = new Set<ShardPlan>()
  for (const shard of shards) if (await workspace.isFinished(shard.name, shard.bytes)) finished.add(shard)
  await workspace.keepOnly([...finished].map(({ name }) => name))
  const total = shards.reduce((sum, { bytes }) => sum + bytes, 0)
  let done = [...finished].reduce((sum, { bytes }) => sum + bytes, 0)
  await checkRoom(workspace.directory, total - done + otherBytes)
  const report = (bytes: number) => {
    done += bytes
    onProgress?.({ phase: 'writing', done, total })
  }
  report(0)
  let flushing: Promise<void> = Promise.resolve()
  try {
    for (const shard of shards) {
      if (finished.has(shard)) continue
      const file = await writeShard(shard, workspace.unfinished(shard.name), { signal, onBytes: report })
      try {
        await flushing
      } catch (error) {
        await file.close()
        throw error
      }
      flushing = flush(workspace, shard, file)
      flushing.catch(() => {}) // awaited below
    }
  } finally {
    await flushing
  }
  return finished.size
}

async function flush(workspace: Workspace, shard: ShardPlan, file: FileHandle): Promise<void> {
  try {
    await writing(workspace.unfinished(shard.name), shard.bytes, () => file.datasync())
  } finally {
    await file.close()
  }
  await workspace.finish(shard.name)
}

async function verify(
  workspace: Workspace,
  checkpoint: Checkpoint,
  found: GatedMlps,
  shards: readonly ShardPlan[],
  { paddedSize: padded, placement }: PadResult,
  { signal, onProgress }: PadOptions,
): Promise<PaddingVerification> {
  const files = shards.map(({ name }) => join(workspace.checkpoint, name))
  try {
    return await verifyPadding(checkpoint, found, files, padded, placement, {
      signal,
      onLayer: (done) => onProgress?.({ phase: 'verifying', done, total: found.mlps.length }),
    })
  } catch (error) {
    // What is wrong must not be taken for finished by the next call.
    if (error instanceof BillfishError && error !== signal?.reason) {
      for (const { name } of shards) await workspace.discard(name)
    }
    throw error
  }
}
