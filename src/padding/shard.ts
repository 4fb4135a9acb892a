/** One safetensors file of a padded checkpoint: planned from headers, then written slab by slab. */

import { constants } from 'node:fs'
import { copyFile, type FileHandle, open } from 'node:fs/promises'
import { basename } from 'node:path'
import { forEachConcurrently } from '../checkpoint/concurrency'
import { readExactly, withFile } from '../checkpoint/files'
import type { Checkpoint, UnsupportedTensor } from '../checkpoint/types'
import { roundUp } from '../common/arithmetic'
import { bytesOf, type PaddedTensor, type Part } from './parts'
import { SlabReader, slabsOf } from './slabs'
import { writing } from './write-errors'

/** Slabs on their way at the same time: as many as Node.js reads and writes at once. */
const CONCURRENT_SLABS = 4

export interface ShardPlan {
  readonly source: string
  /** File name, here and there. */
  readonly name: string
  /** The new header with its length before it; undefined where the file is copied as it is. */
  readonly header: Uint8Array | undefined
  readonly parts: readonly Part[]
  /** Of the whole new file. */
  readonly bytes: number
}

/** Length and text of a file's safetensors header, as it is. */
export async function readRawHeader(path: string): Promise<{ text: Uint8Array; dataStart: number }> {
  return withFile(path, async (file) => {
    const prefix = await readExactly(file, 0, 8, path)
    const length = Number(new DataView(prefix.buffer).getBigUint64(0, true)) // checked when the checkpoint was opened
    return { text: await readExactly(file, 8, length, path), dataStart: 8 + length }
  })
}

/** The JSON, spaces up to a multiple of 8 bytes, and before both their length. */
function headerBytes(header: object): Uint8Array {
  const json = Buffer.from(JSON.stringify(header))
  const length = roundUp(json.length, 8)
  const bytes = Buffer.alloc(8 + length, ' ')
  bytes.writeBigUInt64LE(BigInt(length))
  bytes.set(json, 8)
  return bytes
}

/**
 * Plans file number `file` of the checkpoint: the tensors in their order, `__metadata__` as it is.
 *
 * @param padded - the tensors that change, by name, of whichever file
 */
export async function planShard(
  checkpoint: Checkpoint,
  file: number,
  fileBytes: number,
  padded: ReadonlyMap<string, PaddedTensor>,
): Promise<ShardPlan> {
  const source = checkpoint.files[file] as string
  const name = basename(source)
  const tensors: UnsupportedTensor[] = [...checkpoint.tensors.values(), ...checkpoint.unsupportedTensors.values()]
    .filter((tensor) => tensor.file === file)
    .sort((a, b) => a.offset - b.offset || a.bytes - b.bytes)
  if (!tensors.some((tensor) => padded.has(tensor.name))) {
    return { source, name, header: undefined, parts: [], bytes: fileBytes }
  }
  const { text } = await readRawHeader(source)
  const { __metadata__ } = JSON.parse(Buffer.from(text).toString('utf8')) as { __metadata__?: unknown }
  const entries: [string, unknown][] = __metadata__ === undefined ? [] : [['__metadata__', __metadata__]]
  const parts: Part[] = []
  let end = 0
  for (const tensor of tensors) {
    const change = padded.get(tensor.name)
    const own: readonly Part[] = change?.parts ?? [{ kind: 'copy', offset: tensor.offset, bytes: tensor.bytes }]
    const begin = end
    for (const part of own) end += bytesOf(part)
    parts.push(...own)
    const shape = change?.shape ?? tensor.shape
    entries.push([tensor.name, { dtype: tensor.dtype, shape, data_offsets: [begin, end] }])
  }
  const header = headerBytes(Object.fromEntries(entries))
  return { source, name, header, parts, bytes: header.byteLength + end }
}

export interface WritingOptions {
  readonly signal?: AbortSignal | undefined
  /** Called with the number of bytes that were written since the last call. */
  readonly onBytes: (bytes: number) => void
}

/**
 * Writes the file at `path`, over one that is there, and leaves it open, its bytes perhaps not on disk yet.
 *
 * @throws BillfishError INVALID_CHECKPOINT where the source cannot be read; INVALID_OPTION or OUT_OF_MEMORY where the target
 *   cannot be written; the signal's reason once it aborts
 */
export async function writeShard(plan: ShardPlan, path: string, options: WritingOptions): Promise<FileHandle> {
  const { signal, onBytes } = options
  signal?.throwIfAborted()
  if (plan.header === undefined) {
    await writing(path, plan.bytes, () => copyFile(plan.source, path, constants.COPYFILE_FICLONE))
    onBytes(plan.bytes)
    return writing(path, plan.bytes, () => open(path, 'r'))
  }
  const header = plan.header
  const target = await writing(path, plan.bytes, () => open(path, 'w'))
  try {
    await withFile(
      plan.source,
      async (file) => {
        await writing(path, plan.bytes, () => target.write(header, 0, header.byteLength, 0))
        onBytes(header.byteLength)
        const slabs = slabsOf(plan.parts, header.byteLength)
        const readers = Array.from({ length: CONCURRENT_SLABS }, () => new SlabReader(file, plan.source))
        await forEachConcurrently(slabs.length, CONCURRENT_SLABS, async (i, worker) => {
          signal?.throwIfAborted()
          const slab = slabs[i] as (typeof slabs)[number]
          const bytes = await (readers[worker] as SlabReader).read(slab)
          for (let done = 0; done < slab.bytes; ) {
            const { bytesWritten } = await writing(path, plan.bytes, () =>
              target.write(bytes, done, slab.bytes - done, slab.offset + done),
            )
            done += bytesWritten
          }
          onBytes(slab.bytes)
        })
      },
      signal,
    )
    return target
  } catch (error) {
    await target.close()
    signal?.throwIfAborted() // which withFile() would take for a file that cannot be read
    throw error
  }
}
